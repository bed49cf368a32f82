;; stdin to stdout through 64 KiB, with full regard to short writes: the module of the benchmarks.
;; Memory: 0 address and 4 length of the piece (an iovec), 8 the count that WASI gives back,
;; 65536 to 131071 the piece.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)

  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (i32.const 1)))))

  ;; Fills the piece; its length, 0 at the end of the input.
  (func $read_piece (result i32)
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 65536))
    (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))

  (func $write_piece (param $left i32)
    (loop $rest
      (i32.store (i32.const 4) (local.get $left))
      (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
      (br_if $rest
        (local.tee $left (i32.sub (local.get $left) (i32.load (i32.const 8)))))))

  (func $start (export "_start") (local $length i32)
    (block $end
      (loop $next
        (br_if $end (i32.eqz (local.tee $length (call $read_piece))))
        (call $write_piece (local.get $length))
        (br $next)))))
