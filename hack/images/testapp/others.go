package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// echo sends back what it gets: on TCP until the other side closes, on UDP packet by packet.
func echo(ctx context.Context, o options) error {
	if o.udp != 0 {
		if err := echoUDP(ctx, o.udp); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", ":"+strconv.Itoa(o.port))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	fmt.Printf("echoing on %s as %s\n", l.Addr(), hostname())
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting: %w", err)
		}
		go func() {
			defer conn.Close()
			if _, err := io.Copy(conn, conn); err != nil {
				fmt.Fprintln(os.Stderr, "echoing:", err)
			}
		}()
	}
}

// echoUDP answers each packet with our name and what was sent.
func echoUDP(ctx context.Context, port int) error {
	conn, err := net.ListenPacket("udp", ":"+strconv.Itoa(port))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := conn.WriteTo([]byte(hostname()+" "+string(buf[:n])), from); err != nil {
				fmt.Fprintln(os.Stderr, "echoing:", err)
			}
		}
	}()
	return nil
}

// logs writes numbered lines, odd ones to the error stream when asked for "both".
func logs(ctx context.Context, o options) error {
	for i := 1; o.count == 0 || i <= o.count; i++ {
		fmt.Printf("%s %d\n", o.text, i)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
	return nil
}

func pause(ctx context.Context, _ options) error {
	fmt.Println("pausing")
	<-ctx.Done()
	return nil
}

func exit(ctx context.Context, o options) error {
	select {
	case <-ctx.Done():
	case <-time.After(o.after):
	}
	fmt.Println("exiting with", o.code)
	os.Exit(o.code)
	return nil
}

// eat takes memory a mebibyte at a time and keeps it.
func eat(ctx context.Context, o options) error {
	kept := make([][]byte, 0, o.mib)
	for i := range o.mib {
		b := make([]byte, 1<<20)
		for j := 0; j < len(b); j += 4096 {
			b[j] = byte(i)
		}
		kept = append(kept, b)
	}
	fmt.Printf("ate %d MiB\n", len(kept))
	<-ctx.Done()
	return nil
}

// connect calls each target count times and says who answered: http://…, tcp://host:port or udp://host:port. It fails if any
// call does.
func connect(ctx context.Context, o options) error {
	var failed error
	for _, target := range o.args {
		for range o.count {
			answer, err := call(ctx, target, o)
			if err != nil {
				failed = errors.Join(failed, err)
			} else {
				fmt.Println(strings.TrimSpace(answer))
			}
			select {
			case <-ctx.Done():
				return failed
			case <-time.After(o.every):
			}
		}
	}
	return failed
}

func call(ctx context.Context, target string, o options) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if strings.HasPrefix(target, "http://") {
		method := http.MethodGet
		if o.post {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(ctx, method, target, nil)
		if err != nil {
			return "", err
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode >= 300 {
			err = fmt.Errorf("%s: %s", target, resp.Status)
		}
		return string(body), err
	}
	network, addr, ok := strings.Cut(target, "://")
	if !ok {
		return "", fmt.Errorf("target %q: want http://, tcp:// or udp://", target)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(o.text)); err != nil {
		return "", err
	}
	buf := make([]byte, 65536)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}
