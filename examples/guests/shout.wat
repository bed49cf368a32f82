;; Reads stdin, writes it to stdout in capitals, with nothing between the program and the machine.
;; The input may be of any length: it passes through one buffer.
;;
;;     echo hello | wasmwiz run shout.wat        (no compiler needed: the text runs as it is)
;;
;; Memory: 0 address and 4 length of the piece (what WASI calls an iovec), 8 the count that WASI
;; gives back, 1024 to 17407 the piece itself.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param $fd i32) (param $iovecs i32) (param $count i32) (param $done i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $done i32) (result i32)))
  (memory (export "memory") 1)

  (func $capital (param $letter i32) (result i32)
    (if (result i32) (i32.lt_u (i32.sub (local.get $letter) (i32.const 97)) (i32.const 26)) ;; a to z
      (then (i32.sub (local.get $letter) (i32.const 32)))
      (else (local.get $letter))))

  (func $shout (param $at i32) (param $end i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (i32.store8 (local.get $at) (call $capital (i32.load8_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))

  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (block $end
      (loop $more
        (i32.store (i32.const 4) (i32.const 16384))
        (br_if $end (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $end (i32.eqz (i32.load (i32.const 8))))
        (call $shout (i32.const 1024) (i32.add (i32.const 1024) (i32.load (i32.const 8))))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (br_if $end (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $more)))))
