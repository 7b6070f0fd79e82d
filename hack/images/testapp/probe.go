package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// probe says of each target, NAME=tcp://HOST:PORT or NAME=udp://HOST:PORT, whether it can be reached: «NAME yes», or «NAME no» and why. All
// are tried at once and none for longer than the timeout; that one can't be reached is no failure. Without targets they are read from the
// standard input, a round a line, and an empty line ends the answer of each round: so a pod can be asked again and again by one call.
func probe(ctx context.Context, o options) error {
	if len(o.args) > 0 {
		return probeRound(ctx, os.Stdout, o.args, o.timeout)
	}
	return probeRounds(ctx, os.Stdin, os.Stdout, o.timeout)
}

func probeRounds(ctx context.Context, in io.Reader, out io.Writer, timeout time.Duration) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		w := bufio.NewWriter(out)
		if err := probeRound(ctx, w, strings.Fields(lines.Text()), timeout); err != nil {
			return err
		}
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return lines.Err()
}

func probeRound(ctx context.Context, out io.Writer, targets []string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type answer struct {
		name string
		err  error
	}
	answers := make([]answer, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		name, url, named := strings.Cut(t, "=")
		network, address, ok := strings.Cut(url, "://")
		if !named || !ok || network != "tcp" && network != "udp" {
			return fmt.Errorf("target %q: want NAME=tcp://HOST:PORT or NAME=udp://HOST:PORT", t)
		}
		all.Go(func() { answers[i] = answer{name, reach(ctx, network, address)} })
	}
	all.Wait()
	for _, a := range answers {
		if a.err != nil {
			fmt.Fprintf(out, "%s no: %v\n", a.name, a.err)
		} else {
			fmt.Fprintf(out, "%s yes\n", a.name)
		}
	}
	return nil
}

// reach opens a connection; over UDP, where that says nothing, it waits for an answer and asks several times.
func reach(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if network == "tcp" {
		return nil
	}
	deadline, _ := ctx.Deadline()
	pause := time.Until(deadline) / 4
	buf := make([]byte, 64)
	for {
		next := time.Now().Add(pause)
		if next.After(deadline) {
			next = deadline
		}
		if err := conn.SetDeadline(next); err != nil {
			return err
		}
		if _, err = conn.Write([]byte("?")); err == nil {
			_, err = conn.Read(buf)
		}
		if err == nil {
			return nil
		}
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() || !time.Now().Before(deadline) {
			return err
		}
	}
}
