;; Grows a table without end; were it told -1, it would start over.
(module
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (func (export "_start")
    (loop $again
      (drop (table.grow $t (ref.null func) (i32.const 100000)))
      (br $again))))
