;; Puts stderr in the place of stdout, then writes a word to descriptor 1: it belongs to stderr now,
;; and descriptor 2 is closed.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber"
    (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "moved\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 6))
    (if (call $fd_renumber (i32.const 2) (i32.const 1))
      (then (call $proc_exit (i32.const 1))))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 2))))
    (if (i32.ne (i32.const 8) ;; EBADF
          (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
      (then (call $proc_exit (i32.const 3))))))
