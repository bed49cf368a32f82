;; Copies out of a segment that it has dropped.
(module
  (memory (export "memory") 1)
  (data $d "four")
  (func $_start (export "_start")
    (data.drop $d)
    (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))
