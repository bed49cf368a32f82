;; wat2wasm: --enable-threads
;; Atomic instructions, without a shared memory; one that would wait for ever.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
    (drop (memory.atomic.wait32 (i32.const 0) (i32.const 1) (i64.const -1)))))
