// The program markers reads the Go source of the API types and writes down what their comments say and reflection does not:
// how lists, maps and structs merge, defaults, enumerations, and which fields are required against what their JSON tag says.
// The room apiserver/markers embeds the result. It is called by go generate (make generate), in the folder of that room, with
// the name of the file to write.
//
// The source is that of the modules named in the go.mod above the current folder. Packages are parsed, not type-checked: what
// is wanted stands beside each declaration, and the few constants that defaults and enumerations name are in the same package.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "markers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the file to write; got %d", len(args))
	}
	text, err := generate(".")
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], text, 0o644)
}
