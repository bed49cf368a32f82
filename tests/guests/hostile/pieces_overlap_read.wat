;; Reads stdin into pieces that lie over the list of pieces itself, over each other and over the
;; place of the count: the host must look at each entry once. Whatever is answered, nothing breaks.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    ;; 64 entries at 0, 8, ..., each pointing at itself and what is behind it
    (loop $fill
      (i32.store (local.get $at) (local.get $at))
      (i32.store offset=4 (local.get $at) (i32.const 1024))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 512))))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 4)))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 4)))))
