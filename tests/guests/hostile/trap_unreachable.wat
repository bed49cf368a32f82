;; Reaches what it calls unreachable.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    unreachable))
