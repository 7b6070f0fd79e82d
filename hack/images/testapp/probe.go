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
// standard input, a round a line, and an empty line ends the answer of each round: so a pod can be asked again and again by one call. Of a
// target NAME=keep://HOST:PORT the connection stays open from round to round, and whether it carries a request and its answer is said.
func probe(ctx context.Context, o options) error {
	p := &prober{timeout: o.timeout, kept: map[string]net.Conn{}}
	defer p.close()
	if len(o.args) > 0 {
		return p.round(ctx, os.Stdout, o.args)
	}
	return p.rounds(ctx, os.Stdin, os.Stdout)
}

// prober is probe with what it keeps.
type prober struct {
	timeout time.Duration

	mu   sync.Mutex
	kept map[string]net.Conn // guarded by mu; by name
}

func (p *prober) close() {
	for _, c := range p.kept {
		c.Close()
	}
}

func (p *prober) rounds(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		w := bufio.NewWriter(out)
		if err := p.round(ctx, w, strings.Fields(lines.Text())); err != nil {
			return err
		}
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (p *prober) round(ctx context.Context, out io.Writer, targets []string) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
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
		try := map[string]func() error{
			"tcp": func() error { return reach(ctx, network, address) }, "udp": func() error { return reach(ctx, network, address) },
			"keep": func() error { return p.use(ctx, name, address) },
		}[network]
		if !named || !ok || try == nil {
			return fmt.Errorf("target %q: want NAME=tcp://HOST:PORT, NAME=udp://HOST:PORT or NAME=keep://HOST:PORT", t)
		}
		all.Go(func() { answers[i] = answer{name, try()} })
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

// use sends a request over the connection of that name, which it opens if there is none, and reads the beginning of the answer.
func (p *prober) use(ctx context.Context, name, address string) error {
	p.mu.Lock()
	conn := p.kept[name]
	p.mu.Unlock()
	if conn == nil {
		var err error
		if conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address); err != nil {
			return err
		}
		p.mu.Lock()
		p.kept[name] = conn
		p.mu.Unlock()
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", address); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 4096))
	return err
}
