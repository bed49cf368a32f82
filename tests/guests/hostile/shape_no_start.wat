;; Exports a function, but not under the name that is called.
(module
  (memory (export "memory") 1)
  (func (export "run")))
