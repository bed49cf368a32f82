;; Declares 187 MiB before a single instruction runs.
(module
  (memory (export "memory") 3000)
  (func (export "_start")))
