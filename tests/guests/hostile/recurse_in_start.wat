;; Uses up the stack in its start function.
(module
  (memory (export "memory") 1)
  (func $down (result i32) (i32.add (call $down) (i32.const 1)))
  (func $begin (drop (call $down)))
  (start $begin)
  (func (export "_start")))
