;; Sets an element far behind its table.
(module
  (memory (export "memory") 1)
  (table $t 4 funcref)
  (func $_start (export "_start")
    (table.set $t (i32.const -1) (ref.null func))))
