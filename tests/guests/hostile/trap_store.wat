;; Stores behind its memory.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (i64.store (i32.const -8) (i64.const 1))))
