;; Writes a line and traps, three calls deep: the line must be kept, the frames must be named.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "half the truth\n")
  (func $innermost (param $n i32)
    (if (i32.eq (local.get $n) (i32.const 3)) (then unreachable)))
  (func $middle (param $n i32)
    (call $innermost (i32.add (local.get $n) (i32.const 1)))
    (drop (memory.grow (i32.const 0))))
  (func $outer (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 15))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $middle (i32.const 2))
    (drop (memory.grow (i32.const 0)))))
