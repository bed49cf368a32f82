;; One page more than the default limit of 128 MiB: 2048 pages would be right.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 2048)))))
