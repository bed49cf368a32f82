;; wat2wasm: --enable-exceptions
;; Throws and catches, in the old form of exceptions.
(module
  (memory (export "memory") 1)
  (tag $oops (param i32))
  (func (export "_start")
    (try (do (throw $oops (i32.const 1))) (catch $oops (drop)))))
