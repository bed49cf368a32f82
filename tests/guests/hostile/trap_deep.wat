;; Traps under 500 frames: the report must stay short.
(module
  (memory (export "memory") 1)
  (func $down (param $n i32) (result i32)
    (if (i32.eqz (local.get $n)) (then unreachable))
    (i32.add (call $down (i32.sub (local.get $n) (i32.const 1))) (i32.const 1)))
  (func (export "_start") (drop (call $down (i32.const 500)))))
