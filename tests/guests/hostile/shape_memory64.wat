;; wat2wasm: --enable-memory64
;; A memory with 64-bit addresses.
(module
  (memory (export "memory") i64 1)
  (func (export "_start") (drop (i32.load (i64.const 0)))))
