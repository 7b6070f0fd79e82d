package streaming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Place is where the ports of a pod are.
type Place struct {
	// NetNS is the path of the pod's network namespace; empty: it is on the node's network.
	NetNS string
	// IPs that it has there.
	IPs []netip.Addr
}

// dial connects to a port as the pod itself would, since many servers listen to nobody but localhost; one that listens at the pod's address only is
// found there.
func (p Place) dial(ctx context.Context, port int32) (*net.TCPConn, error) {
	var failed error
	for _, ip := range append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, p.IPs...) {
		conn, err := p.connect(ctx, net.JoinHostPort(ip.String(), strconv.Itoa(int(port))))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if failed == nil { // that of localhost says most
			failed = err
		}
	}
	return nil, failed
}

// connect dials from the pod's network. address has no name to look up, so that the socket is made by this very thread.
func (p Place) connect(ctx context.Context, address string) (conn net.Conn, err error) {
	var d net.Dialer
	if p.NetNS == "" {
		return d.DialContext(ctx, "tcp", address)
	}
	there, err := os.Open(p.NetNS)
	if err != nil {
		return nil, fmt.Errorf("opening the pod's network: %w", err)
	}
	defer there.Close()
	goruntime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		goruntime.UnlockOSThread()
		return nil, fmt.Errorf("opening the node's network: %w", err)
	}
	defer here.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		goruntime.UnlockOSThread()
		return nil, fmt.Errorf("entering the pod's network: %w", err)
	}
	conn, err = d.DialContext(ctx, "tcp", address)
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil { // the thread stays locked, and ends with this goroutine
		return conn, errors.Join(err, fmt.Errorf("leaving the pod's network: %w", back))
	}
	goruntime.UnlockOSThread()
	return conn, err
}
