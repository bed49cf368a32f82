;; Spins through a jump table.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $again
      (block $d (block $c (block $b (block $a
        (br_table $a $b $c $d (i32.and (local.get $i) (i32.const 3))))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $again))
        (local.set $i (i32.add (local.get $i) (i32.const 5))) (br $again))
        (local.set $i (i32.mul (local.get $i) (i32.const 7))) (br $again))
      (local.set $i (i32.add (local.get $i) (i32.const 3)))
      (br $again))))
