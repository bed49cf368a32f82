// Says hello, then each argument on a line.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("hello from Go")
	for i, arg := range os.Args {
		if i > 0 {
			fmt.Printf("arg %d: %s\n", i, arg)
		}
	}
}
