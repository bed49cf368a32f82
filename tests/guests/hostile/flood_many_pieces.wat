;; Writes 65,536 pieces of 1 KiB each, all of them the same KiB, in one call; then again.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 10)
  (func (export "_start") (local $at i32)
    (local.set $at (i32.const 65536))
    (loop $fill
      (i32.store (local.get $at) (i32.const 1024))
      (i32.store offset=4 (local.get $at) (i32.const 1024))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 589824))))
    (loop $again
      (drop (call $fd_write (i32.const 1) (i32.const 65536) (i32.const 65536) (i32.const 8)))
      (br $again))))
