;; Functions to be called by name: wasmwiz run --invoke add add.wat 2 3
(module
  (func $add (export "add") (param $a i32) (param $b i32) (result i32)
    (i32.add (local.get $a) (local.get $b)))
  (func $add64 (export "add64") (param $a i64) (param $b i64) (result i64)
    (i64.add (local.get $a) (local.get $b)))
  (func $half (export "half") (param $a f64) (result f64)
    (f64.div (local.get $a) (f64.const 2)))
  (func $nothing (export "nothing")))
