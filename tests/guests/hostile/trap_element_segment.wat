;; Has an element segment that does not fit: a trap while it is instantiated.
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (elem (i32.const 1) $_start)
  (func $_start (export "_start")
    (nop)))
