;; wat2wasm: --enable-multi-memory
;; Two memories whose declared minimums pass the limit together.
(module
  (memory (export "memory") 1500)
  (memory 1500)
  (func (export "_start")))
