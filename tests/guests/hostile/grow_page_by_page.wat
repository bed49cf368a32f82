;; Takes a page at a time and writes to it, until it is stopped.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $old i32)
    (loop $again
      (local.set $old (memory.grow (i32.const 1)))
      (i32.store (i32.mul (local.get $old) (i32.const 65536)) (i32.const 1))
      (br $again))))
