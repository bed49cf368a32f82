;; Fills past the end of its memory.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (memory.fill (i32.const 65535) (i32.const 1) (i32.const 2))))
