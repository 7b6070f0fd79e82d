// The program markers reads the Go source of the API types and writes down what their comments say and reflection does not:
// how lists, maps and structs merge, defaults, enumerations, and which fields are required against what their JSON tag says.
// The room apiserver/markers embeds the result. Asked for comments, it writes down what they say for people, as far as the types
// do not say it themselves; the room apiserver/openapi embeds that. It is called by go generate (make generate), in the folder of
// that room, with the name of the file to write.
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

// texts are what can be made.
var texts = map[string]func(dir string) ([]byte, error){"markers": generate, "comments": describe}

func run(args []string) error {
	if len(args) != 2 || texts[args[0]] == nil {
		return fmt.Errorf("want what to make (markers or comments) and the file to write; got %q", args)
	}
	text, err := texts[args[0]](".")
	if err != nil {
		return err
	}
	return os.WriteFile(args[1], text, 0o644)
}
