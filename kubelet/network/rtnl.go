package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batch is a list of requests to the kernel that travel in one message. The kernel does them in order, and goes on after one that fails; only the last
// asks for an answer, for a failure is told in any case. So a batch costs one round trip however long it is.
type batch struct {
	requests []*nl.NetlinkRequest
	what     []string
}

// perMessage bounds what travels together: all must fit a socket's buffers, the kernel's answers too.
const perMessage = 200

// add appends a request; what says in an error what it was about, as a gerund and its object.
func (b *batch) add(what string, kind, flags int, data ...nl.NetlinkRequestData) {
	r := nl.NewNetlinkRequest(kind, flags)
	r.Flags &^= unix.NLM_F_ACK
	for _, d := range data {
		r.AddData(d)
	}
	b.requests, b.what = append(b.requests, r), append(b.what, what)
}

// answer is what the kernel said to one request.
type answer struct {
	data []byte // of the first message, for requests that ask for something
	err  error
}

// send has the kernel do it all and returns an answer for each request; the error is that of the talk itself.
func (b *batch) send(s socket) ([]answer, error) {
	answers := make([]answer, len(b.requests))
	for from := 0; from < len(b.requests); from += perMessage {
		to := min(from+perMessage, len(b.requests))
		if err := s.talk(b.requests[from:to], answers[from:to]); err != nil {
			return nil, fmt.Errorf("talking to the kernel: %w", err)
		}
	}
	return answers, nil
}

// do is send for a caller who wants it all or an error: of each request that failed, but those that the caller forgives.
func (b *batch) do(s socket, forgive ...error) error {
	if len(b.requests) == 0 {
		return nil
	}
	answers, err := b.send(s)
	if err != nil {
		return err
	}
	var failed []error
next:
	for i, a := range answers {
		for _, f := range forgive {
			if errors.Is(a.err, f) {
				continue next
			}
		}
		if a.err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", b.what[i], a.err))
		}
	}
	return errors.Join(failed...)
}

// socket speaks to the kernel about links, addresses and routes of the network namespace in which it was opened.
type socket int

func openSocket() (socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("opening netlink socket: %w", err)
	}
	// The kernel's words beside its number; it need not send our request back. An old one that knows neither goes on without.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	return socket(fd), nil
}

func (s socket) close() { unix.Close(int(s)) }

// onHost is do with a socket of its own, in the caller's network namespace.
func (b *batch) onHost(forgive ...error) error {
	if len(b.requests) == 0 {
		return nil
	}
	s, err := openSocket()
	if err != nil {
		return err
	}
	defer s.close()
	return b.do(s, forgive...)
}

// talk sends requests in one message and reads until the last one is answered. Dumps can't be asked for.
func (s socket) talk(requests []*nl.NetlinkRequest, answers []answer) error {
	var out []byte
	index := make(map[uint32]int, len(requests))
	for i, r := range requests {
		if i == len(requests)-1 {
			r.Flags |= unix.NLM_F_ACK
		}
		index[r.Seq] = i
		out = append(out, r.Serialize()...)
		out = append(out, make([]byte, -len(out)&3)...)
	}
	if err := unix.Sendto(int(s), out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	in := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(int(s), in, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for rest := in[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.SizeofNlMsghdr || size > len(rest) {
				return errors.New("a message was cut off")
			}
			kind, seq, body := binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint32(rest[8:]), rest[unix.SizeofNlMsghdr:size]
			rest = rest[min((size+3)&^3, len(rest)):]
			i, known := index[seq]
			switch {
			case !known:
			case kind != unix.NLMSG_ERROR:
				if answers[i].data == nil {
					answers[i].data = append([]byte{}, body...)
				}
			default:
				answers[i].err = refusal(body)
				if i == len(requests)-1 {
					return nil
				}
			}
		}
	}
}

// refusal reads an answer that carries an error number, 0 for none, and maybe a sentence.
func refusal(body []byte) error {
	number := -int32(binary.NativeEndian.Uint32(body))
	if number == 0 {
		return nil
	}
	err := error(unix.Errno(number))
	if len(body) < 4+unix.SizeofNlMsghdr {
		return err
	}
	for a := range attributes(body[4+unix.SizeofNlMsghdr:]) {
		if a.kind == unix.NLMSGERR_ATTR_MSG && len(a.value) > 1 {
			return fmt.Errorf("%w (%s)", err, a.value[:len(a.value)-1])
		}
	}
	return err
}

type attribute struct {
	kind  int
	value []byte
}

// attributes walks through what follows the fixed part of a message.
func attributes(b []byte) func(yield func(attribute) bool) {
	return func(yield func(attribute) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			kind := int(binary.NativeEndian.Uint16(b[2:]) & nl.NLA_TYPE_MASK)
			if !yield(attribute{kind, b[unix.SizeofRtAttr:size]}) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// inside runs do on a thread that is in the network namespace for that long. A thread that does not find back is given up, with its goroutine.
func inside(ns *os.File, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("opening the own network namespace: %w", err)
			return
		}
		defer own.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("entering network namespace %s: %w", ns.Name(), err)
			return
		}
		err = do()
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
