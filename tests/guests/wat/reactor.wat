;; A library: _initialize must have run before answer(), else it traps.
(module
  (memory (export "memory") 1)
  (global $ready (mut i32) (i32.const 0))
  (func $initialize (export "_initialize")
    (global.set $ready (i32.const 1)))
  (func $answer (export "answer") (result i32)
    (if (i32.eqz (global.get $ready)) (then unreachable))
    (i32.const 42)))
