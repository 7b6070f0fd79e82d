package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// elsewhere runs a server in a network of its own, as a pod has one, and returns the network's path and the port.
func elsewhere(t *testing.T) (netns string, port int32) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("only root makes networks")
	}
	type up struct {
		ln  net.Listener
		err error
	}
	made, end := make(chan up), make(chan struct{})
	t.Cleanup(func() { close(end) })
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread ends with this goroutine
		netns = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = raise("lo")
		}
		var ln net.Listener
		if err == nil {
			ln, err = net.Listen("tcp", "127.0.0.1:0")
		}
		made <- up{ln, err}
		<-end
	}()
	got := <-made
	if got.err != nil {
		t.Fatal(got.err)
	}
	t.Cleanup(func() { got.ln.Close() })
	go func() {
		for {
			c, err := got.ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "from the pod")
			c.Close()
		}
	}()
	return netns, int32(got.ln.Addr().(*net.TCPAddr).Port)
}

func raise(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// A server that listens to nobody but its own pod is reached, from the pod's network alone; the thread that was there comes back.
func TestPlace(t *testing.T) {
	netns, port := elsewhere(t)
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Place{NetNS: netns}.dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "from the pod" {
		t.Errorf("read %q, %v", b, err)
	}
	if after, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || after != before {
		t.Errorf("the thread is in %s, %v; it was in %s", after, err, before)
	}
	if c, err := (Place{NetNS: netns, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.3")}}).dial(t.Context(), 1); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens there: %v, %v", c, err)
	}
	if _, err := (Place{NetNS: "/nowhere"}).dial(t.Context(), port); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a network that is gone: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.4:0") // on the node, and not at localhost
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err = Place{IPs: []netip.Addr{netip.MustParseAddr("127.0.0.4")}}.dial(t.Context(), int32(ln.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A server that takes no more connections keeps nobody longer than the client waits, and no thread.
func TestPlaceFull(t *testing.T) {
	netns, _ := elsewhere(t)
	p := Place{NetNS: netns}
	fd, err := p.socket(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(at.(*unix.SockaddrInet4).Port))
	ctx, stop := context.WithCancel(t.Context())
	const clients = 200
	results := make(chan error, clients)
	for range clients {
		go func() {
			c, err := p.connect(ctx, to)
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			results <- err
		}()
	}
	if err := <-results; err != nil { // the first finds room
		t.Fatal(err)
	}
	stop()
	left := 0
	for range clients - 1 {
		if err := <-results; errors.Is(err, context.Canceled) {
			left++
		} else if err != nil {
			t.Error(err)
		}
	}
	if left < clients/2 {
		t.Errorf("%d of %d clients waited", left, clients)
	}
	if threads, err := os.ReadDir("/proc/self/task"); err != nil || len(threads) > clients/2 {
		t.Errorf("%d threads, %v", len(threads), err)
	}
}
