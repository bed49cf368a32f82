;; Wants a function whose name tries to break out of logs, terminals and JSON.
(module
  (import "env" "\22,\0a\1b[31mred\00</script>" (func))
  (memory (export "memory") 1)
  (func (export "_start")))
