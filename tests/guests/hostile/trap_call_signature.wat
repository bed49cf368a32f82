;; Calls a function through the table as if it had another signature.
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (elem (i32.const 0) $_start)
  (func $_start (export "_start")
    (drop (call_indirect (param i32) (result i64) (i32.const 7) (i32.const 0)))))
