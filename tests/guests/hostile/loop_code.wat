;; Never ends: an empty loop.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (loop $again (br $again))))
