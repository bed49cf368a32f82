;; Loads from the largest address and offset there are: 8 GiB away.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (drop (i64.load offset=0xffffffff (i32.const 0xffffffff)))))
