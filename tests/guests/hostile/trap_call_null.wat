;; Calls an element that was never set.
(module
  (memory (export "memory") 1)
  (table 4 funcref)
  (func $_start (export "_start")
    (call_indirect (i32.const 3))))
