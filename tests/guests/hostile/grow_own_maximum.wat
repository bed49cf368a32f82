;; Grows past the maximum that it declares itself, far below any limit: by the specification it is
;; told -1 and goes on.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1 2)
  (func (export "_start")
    (if (i32.ne (memory.grow (i32.const 2)) (i32.const -1))
      (then (call $proc_exit (i32.const 1))))
    (if (i32.ne (memory.size) (i32.const 1))
      (then (call $proc_exit (i32.const 2))))))
