;; Each call of poll_oneoff names 20,000 sleeps of an age each; then again.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 40)
  (func (export "_start") (local $at i32)
    (loop $fill
      (i64.store offset=24 (local.get $at) (i64.const 0x7fffffffffffffff))
      (local.set $at (i32.add (local.get $at) (i32.const 48)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 960000))))
    (loop $again
      (drop (call $poll_oneoff
        (i32.const 0) (i32.const 1000000) (i32.const 20000) (i32.const 2000000)))
      (br $again))))
