;; Turns a number that is none into an integer.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (drop (i32.trunc_f32_s (f32.const nan)))))
