package nodeaddr_test

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kube-proxy/nodeaddr"
	"pilothouse.dev/kube-proxy/testnet"
)

// With ranges the machine's addresses are followed as they come and go.
func TestAddressesAreFollowed(t *testing.T) {
	n := testnet.New(t, 1)
	b := nodeaddr.New([]netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, false, zaptest.NewLogger(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Node.Run(func() error { return b.Run(ctx) }) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()

	until := func(want ...string) {
		t.Helper()
		timeout := time.After(testnet.Patience)
		for {
			select {
			case <-b.Woken():
			case <-timeout:
				t.Fatalf("still %v, want %v", b.Addresses(), want)
			}
			var got []string
			for _, a := range b.Addresses() {
				got = append(got, a.String())
			}
			if slices.Equal(got, want) {
				return
			}
		}
	}
	ip := func(args ...string) {
		t.Helper()
		n.Node.Do(t, func() error {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %v: %w: %s", args, err, out)
			}
			return nil
		})
	}
	until("198.18.7.1")
	ip("address", "add", "198.18.9.9/32", "dev", "outside")
	until("198.18.7.1", "198.18.9.9")
	ip("address", "del", "198.18.9.9/32", "dev", "outside")
	until("198.18.7.1")
}
