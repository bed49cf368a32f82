;; Writes pieces that are the list of pieces itself, with the count stored into the list.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (loop $fill
      (i32.store offset=4 (local.get $at) (i32.const 512))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 512))))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 64) (i32.const 4)))))
