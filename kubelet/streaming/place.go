package streaming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"syscall"
	"time"

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
		conn, err := p.connect(ctx, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if failed == nil { // that of localhost says most
			failed = err
		}
	}
	return nil, failed
}

// connect dials from the pod's network. Only the socket is made there: who does not answer keeps no thread.
func (p Place) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if p.NetNS == "" {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", to.String())
	}
	family := unix.AF_INET
	var address unix.Sockaddr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: four(to.Addr())}
	if to.Addr().Is6() {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := p.socket(family)
	if err != nil {
		return nil, err
	}
	failed := func(call string, err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: os.NewSyscallError(call, err)}
	}
	if err := unix.Connect(fd, address); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, errors.Join(failed("connect", err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), to.String()) // it does not block, so the runtime waits for it
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, failed("connect", err)
	}
	var is error
	err = raw.Write(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(ready, 0)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			return false
		}
		code := 0
		if err == nil {
			code, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		}
		if is = err; is == nil && code != 0 {
			is = syscall.Errno(code)
		}
		return true
	})
	if err == nil && is != nil {
		err = is
	}
	if err != nil {
		return nil, failed("connect", errors.Join(err, ctx.Err()))
	}
	return net.FileConn(f)
}

// four is an address of IPv4, zero for others.
func four(a netip.Addr) (out [4]byte) {
	if a.Is4() {
		out = a.As4()
	}
	return out
}

// socket makes a socket in the pod's network, on a thread that goes there and comes back.
func (p Place) socket(family int) (int, error) {
	there, err := os.Open(p.NetNS)
	if err != nil {
		return 0, fmt.Errorf("opening the pod's network: %w", err)
	}
	defer there.Close()
	goruntime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		goruntime.UnlockOSThread()
		return 0, fmt.Errorf("opening the node's network: %w", err)
	}
	defer here.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		goruntime.UnlockOSThread()
		return 0, fmt.Errorf("entering the pod's network: %w", err)
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil { // the thread stays locked, and ends with this goroutine
		if err == nil {
			err = unix.Close(fd)
		}
		return 0, errors.Join(fmt.Errorf("leaving the pod's network: %w", back), err)
	}
	goruntime.UnlockOSThread()
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	return fd, nil
}
