;; wat2wasm: --enable-multi-memory
;; Four memories, each far below the limit: their sum passes it.
(module
  (memory $a (export "memory") 1)
  (memory $b 1)
  (memory $c 1)
  (memory $d 1)
  (func (export "_start")
    (drop (memory.grow $a (i32.const 600)))
    (drop (memory.grow $b (i32.const 600)))
    (drop (memory.grow $c (i32.const 600)))
    (drop (memory.grow $d (i32.const 600)))))
