;; Two functions that call each other without end.
(module
  (memory (export "memory") 1)
  (func $left (param $n i32) (result i32)
    (i32.add (call $right (local.get $n)) (i32.const 1)))
  (func $right (param $n i32) (result i32)
    (i32.mul (call $left (local.get $n)) (i32.const 3)))
  (func (export "_start") (drop (call $left (i32.const 0)))))
