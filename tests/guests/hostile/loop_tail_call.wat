;; wat2wasm: --enable-tail-call
;; Two functions that hand over to each other for ever by tail calls: no loop, no stack.
(module
  (memory (export "memory") 1)
  (func $ping (param $n i64) (return_call $pong (i64.add (local.get $n) (i64.const 1))))
  (func $pong (param $n i64) (return_call $ping (i64.mul (local.get $n) (i64.const 3))))
  (func (export "_start") (call $ping (i64.const 1))))
