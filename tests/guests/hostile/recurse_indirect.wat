;; Calls itself through a table without end.
(module
  (type $step (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (table 1 funcref)
  (elem (i32.const 0) $down)
  (func $down (type $step)
    (i32.add (call_indirect (type $step) (local.get 0) (i32.const 0)) (i32.const 1)))
  (func (export "_start") (drop (call $down (i32.const 0)))))
