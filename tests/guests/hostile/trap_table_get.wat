;; Gets an element behind its table.
(module
  (memory (export "memory") 1)
  (table $t 4 funcref)
  (func $_start (export "_start")
    (drop (table.get $t (i32.const 4)))))
