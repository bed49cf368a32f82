;; Copies 100 MB of memory onto itself, one byte further, over and over.
(module
  (memory (export "memory") 1600)
  (func (export "_start")
    (loop $again
      (memory.copy (i32.const 1) (i32.const 0) (i32.const 104857599))
      (br $again))))
