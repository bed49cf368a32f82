;; Copies a table of 100,000 elements onto itself, over and over.
(module
  (memory (export "memory") 1)
  (table $t 100000 funcref)
  (elem declare func $f)
  (func $f)
  (func (export "_start")
    (loop $again
      (table.fill $t (i32.const 0) (ref.func $f) (i32.const 100000))
      (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 99999))
      (br $again))))
