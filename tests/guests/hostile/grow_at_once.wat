;; Asks for nearly 4 GiB in one go. Were it told -1, it would end well.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 65535)))))
