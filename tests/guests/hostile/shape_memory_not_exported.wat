;; Has a memory, but does not export it: the host has none to work on.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory 1)
  (func (export "_start")
    (call $proc_exit
      (i32.ne (i32.const 21)
        (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))))
