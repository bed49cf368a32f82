;; Recurses and calls the host in every frame, so that the stack may end inside a host call.
(module
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func $down (param $n i32) (result i32)
    (i32.add
      (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 0))
      (call $down (i32.add (local.get $n) (i32.const 1)))))
  (func (export "_start") (drop (call $down (i32.const 0)))))
