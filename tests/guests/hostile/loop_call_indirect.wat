;; Two functions that take turns through a table, the stack staying flat.
(module
  (type $turn (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (table 2 funcref)
  (elem (i32.const 0) $ping $pong)
  (func $ping (type $turn) (i32.const 1))
  (func $pong (type $turn) (i32.const 0))
  (func (export "_start") (local $next i32)
    (loop $again
      (local.set $next (call_indirect (type $turn) (local.get $next) (local.get $next)))
      (br $again))))
