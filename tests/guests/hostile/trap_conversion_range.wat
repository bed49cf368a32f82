;; Turns 1e30 into a 32-bit integer.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (drop (i32.trunc_f64_u (f64.const 1e30)))))
