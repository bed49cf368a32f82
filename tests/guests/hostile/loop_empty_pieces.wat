;; Writes twelve million pieces of no bytes in a call, and reads as many; then again. Memory of zeroes is the list.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1600)
  (func (export "_start")
    (loop $again
      (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 12000000) (i32.const 0)))
      (drop (call $fd_read (i32.const 0) (i32.const 16) (i32.const 12000000) (i32.const 0)))
      (br $again))))
