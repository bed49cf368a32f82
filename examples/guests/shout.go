// Reads stdin, writes it to stdout in capitals. The input may be of any length: it passes through
// one small buffer.
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags='-s -w' -o shout.wasm shout.go
//	echo hello | wasmwiz run shout.wasm
package main

import (
	"io"
	"log"
	"os"
)

// capitals is a writer that passes on what it gets, in capitals.
type capitals struct {
	to io.Writer
}

func (c capitals) Write(piece []byte) (int, error) {
	upper := make([]byte, len(piece))
	for i, b := range piece {
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		upper[i] = b
	}
	return c.to.Write(upper)
}

func main() {
	if _, err := io.Copy(capitals{os.Stdout}, os.Stdin); err != nil {
		log.Fatal(err)
	}
}
