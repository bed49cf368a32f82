;; Copies more out of a passive segment than it has.
(module
  (memory (export "memory") 1)
  (data $d "four")
  (func $_start (export "_start")
    (memory.init $d (i32.const 0) (i32.const 1) (i32.const 4))))
