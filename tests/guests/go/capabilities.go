// What a guest sees of the world: its environment, two clocks, random bytes, and an hour of sleep.
package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"time"
	"unsafe"
)

//go:wasmimport wasi_snapshot_preview1 clock_time_get
//go:noescape
func clockTimeGet(clock uint32, precision uint64, result unsafe.Pointer) uint32

func main() {
	env := os.Environ()
	fmt.Printf("env %d\n", len(env))
	for _, pair := range env {
		fmt.Printf("env %s\n", pair)
	}

	fmt.Printf("realtime_ns %d\n", time.Now().UnixNano())
	var monotonic uint64
	if clockTimeGet(1, 0, unsafe.Pointer(&monotonic)) != 0 {
		os.Exit(1)
	}
	fmt.Printf("monotonic_ns %d\n", monotonic)

	var bytes [8]byte
	if _, err := rand.Read(bytes[:]); err != nil {
		os.Exit(1)
	}
	fmt.Printf("random %x\n", bytes)

	before := time.Now()
	time.Sleep(time.Hour)
	fmt.Printf("slept_s %d\n", int(time.Since(before).Seconds()))
}
