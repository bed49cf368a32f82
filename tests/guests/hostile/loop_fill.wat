;; Fills 100 MB of memory, over and over: one long instruction after another.
(module
  (memory (export "memory") 1600)
  (func (export "_start") (local $value i32)
    (loop $again
      (local.set $value (i32.add (local.get $value) (i32.const 1)))
      (memory.fill (i32.const 0) (local.get $value) (i32.const 104857600))
      (br $again))))
