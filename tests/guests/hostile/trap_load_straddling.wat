;; Loads a word of which the last byte lies behind its memory.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (drop (i32.load (i32.const 65533)))))
