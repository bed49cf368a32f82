;; Closes its three streams, then a thousand descriptors that were never open, then writes.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "never seen")
  (func (export "_start") (local $fd i32)
    (loop $again
      (if (i32.ne
            (call $fd_close (local.get $fd))
            (select (i32.const 0) (i32.const 8) (i32.lt_u (local.get $fd) (i32.const 3))))
        (then (call $proc_exit (i32.const 1))))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $fd) (i32.const 1000))))
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 10))
    (if (i32.ne (i32.const 8)
          (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (then (call $proc_exit (i32.const 2))))))
