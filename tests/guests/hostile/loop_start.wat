;; Never gets as far as its entry point: the loop is in the start function.
(module
  (memory (export "memory") 1)
  (func $forever
    (loop $again (br $again)))
  (start $forever)
  (func (export "_start")))
