;; Never ends by itself: shows what a time limit does, and what the receipt says then.
;;
;;     wasmwiz run --timeout 1s forever.wat; echo $?        (124)
(module
  (memory (export "memory") 1)
  (func $spin (loop $again (br $again)))
  (func (export "_start") (call $spin)))
