// Command testapp is the workload of tests and demos: one static program that serves, echoes, logs, waits, exits, eats memory,
// answers on many ports, calls others or the API server, or looks at files or for names, as its first argument says.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// commands are the things it can be.
var commands = map[string]func(context.Context, options) error{
	"serve":   serve,
	"echo":    echo,
	"logs":    logs,
	"pause":   pause,
	"exit":    exit,
	"eat":     eat,
	"connect": connect,
	"ports":   ports,
	"probe":   probe,

	"incluster": incluster,
	"issuer":    issuer,

	"do":         do,
	"witness":    witness,
	"grpchealth": grpchealth,

	"look": look,

	"resolve": resolve,
	"stalls":  stalls,
}

func main() {
	name := "serve"
	args := os.Args[1:]
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		name, args = args[0], args[1:]
	}
	run, ok := commands[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "testapp: no command %q: serve, echo, logs, pause, exit, eat, connect, ports, probe, incluster, issuer, do, witness, grpchealth, look, resolve or stalls\n", name)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, parse(name, args)); err != nil {
		fmt.Fprintf(os.Stderr, "testapp %s: %v\n", name, err)
		os.Exit(1)
	}
}
