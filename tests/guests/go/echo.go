// stdin to stdout through 64 KiB.
package main

import (
	"io"
	"os"
)

// Hides the file behind plain Read and Write, so that the copy uses the buffer.
type plainReader struct{ io.Reader }
type plainWriter struct{ io.Writer }

func main() {
	buffer := make([]byte, 65536)
	if _, err := io.CopyBuffer(plainWriter{os.Stdout}, plainReader{os.Stdin}, buffer); err != nil {
		println(err.Error())
		os.Exit(1)
	}
}
