;; Declares a table of half a million elements: fewer than a module may declare, more than a run may hold.
(module
  (memory (export "memory") 1)
  (table 500000 funcref)
  (func (export "_start")))
