;; Asks for 2^32-1 pages, a number that overflows when turned into bytes.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const -1)))))
