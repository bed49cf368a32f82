;; Has a data segment that does not fit: a trap while it is instantiated.
(module
  (memory (export "memory") 1)
  (data (i32.const 65530) "ten bytes!")
  (func $_start (export "_start")
    (nop)))
