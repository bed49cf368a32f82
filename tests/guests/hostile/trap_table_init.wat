;; Copies more out of an element segment than it has.
(module
  (memory (export "memory") 1)
  (table $t 10 funcref)
  (elem $e func $_start)
  (func $_start (export "_start")
    (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 2))))
