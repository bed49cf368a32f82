;; Takes 128 MiB to the last page and touches them all: just allowed.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (memory.grow (i32.const 2047)) (i32.const 1))
      (then (call $proc_exit (i32.const 1))))
    (memory.fill (i32.const 0) (i32.const 0x55) (i32.const 134217728))
    (if (i32.ne (i32.load8_u (i32.const 134217727)) (i32.const 0x55))
      (then (call $proc_exit (i32.const 2))))))
