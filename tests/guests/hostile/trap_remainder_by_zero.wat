;; Takes a remainder by zero, in 64 bits.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (drop (i64.rem_s (i64.const 1) (i64.load (i32.const 0))))))
