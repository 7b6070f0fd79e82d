package client

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

func TestPatientWaitsForTheServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	dial := Patient(&rest.Config{}).Dial

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if c, err := dial(ctx, "tcp", address); err == nil {
		c.Close()
		t.Fatal("connected to nobody")
	} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("gave up with %v", err)
	}

	got := make(chan error, 1)
	go func() {
		c, err := dial(t.Context(), "tcp", address)
		if err == nil {
			c.Close()
		}
		got <- err
	}()
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("listening on the port again: %v", err)
	}
	defer again.Close()
	if err := <-got; err != nil {
		t.Errorf("the server is there, yet: %v", err)
	}
}
