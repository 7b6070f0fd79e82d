package streaming

import (
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
		t.Skip("only root makes networks")
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
