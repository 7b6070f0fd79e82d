package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/netns"
)

// ruleWatch hears what the kernel tells of changes of nftables in one network namespace.
type ruleWatch struct {
	fd     int
	wanted chan wantedAddr
	over   chan struct{}
}

type wantedAddr struct {
	bytes []byte
	at    chan time.Time
}

// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const groupNftables = 7

// watchRules listens in the network namespace of a process.
func watchRules(pid int) (*ruleWatch, error) {
	w := &ruleWatch{wanted: make(chan wantedAddr, 1), over: make(chan struct{})}
	err := netns.Do(fmt.Sprintf("/proc/%d/ns/net", pid), func() (err error) {
		w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening to the kernel's rules: %w", err)
	}
	err = errors.Join(
		unix.Bind(w.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (groupNftables - 1)}),
		unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
	)
	if err != nil {
		unix.Close(w.fd)
		return nil, fmt.Errorf("listening to the kernel's rules: %w", err)
	}
	go w.run()
	return w, nil
}

func (w *ruleWatch) run() {
	defer unix.Close(w.fd)
	buf := make([]byte, 1<<20)
	var want *wantedAddr
	for {
		select {
		case <-w.over:
			return
		case next := <-w.wanted:
			want = &next
		default:
		}
		n, _, err := unix.Recvfrom(w.fd, buf, 0) // an error is a time that is over, or news that were lost: who waits says so
		if err != nil {
			continue
		}
		at := time.Now()
		select { // who asked before the news came
		case next := <-w.wanted:
			want = &next
		default:
		}
		if want != nil && bytes.Contains(buf[:n], want.bytes) {
			want.at <- at
			want = nil
		}
	}
}

// expect has the next change that names the address told, by the function it returns. One at a time.
func (w *ruleWatch) expect(addr netip.Addr) func(context.Context) (time.Time, error) {
	ask := wantedAddr{addr.AsSlice(), make(chan time.Time, 1)}
	w.wanted <- ask
	return func(ctx context.Context) (time.Time, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		select {
		case at := <-ask.at:
			return at, nil
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("waiting for a rule with %s: %w", addr, ctx.Err())
		}
	}
}

func (w *ruleWatch) close() { close(w.over) }

// rawRules writes the maps that n services need, and nothing else, into the kernel of an empty namespace.
func rawRules(n, each int) (took time.Duration, err error) {
	err = inEmpty(func() error {
		r, err := openRaw()
		if err != nil {
			return err
		}
		began := time.Now()
		if err := r.fill(n, each); err != nil {
			return err
		}
		took = time.Since(began)
		return r.conn.CloseLasting()
	})
	return took, err
}

// rawChange is the mean time to replace one element among those of n services.
func rawChange(n, each int) (took time.Duration, err error) {
	err = inEmpty(func() error {
		r, err := openRaw()
		if err != nil {
			return err
		}
		if err := r.fill(n, each); err != nil {
			return err
		}
		const changes = 200
		last := endpointOf(n/2, 2)
		began := time.Now()
		for i := range changes {
			next := netip.AddrFrom4([4]byte{10, 251, byte(i >> 8), byte(i)})
			key := key4(netip.AddrFrom4([4]byte{10, 96, byte(n / 2 >> 8), byte(n / 2)}), 2)
			err := errors.Join(
				r.conn.SetDeleteElements(r.endpoints, []nftables.SetElement{{Key: key, Val: key4(last)}}),
				r.conn.SetAddElements(r.endpoints, []nftables.SetElement{{Key: key, Val: key4(next)}}),
			)
			if err = errors.Join(err, r.conn.Flush()); err != nil {
				return fmt.Errorf("replacing an element: %w", err)
			}
			last = next
		}
		took = time.Since(began) / changes
		return r.conn.CloseLasting()
	})
	return took, err
}

// raw is a connection to the kernel with two maps: service → number of a chain, service and number → endpoint.
type raw struct {
	conn                *nftables.Conn
	services, endpoints *nftables.Set
}

func openRaw() (*raw, error) {
	const buffer = 64 << 20 // a load of 10,000 services is 6 MiB
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(buffer), c.SetReadBuffer(buffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Name: "bench", Family: nftables.TableFamilyIPv4})
	keyed := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeMark)
	r := &raw{
		conn:      conn,
		services:  &nftables.Set{Table: table, Name: "services", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeMark},
		endpoints: &nftables.Set{Table: table, Name: "endpoints", IsMap: true, Concatenation: true, KeyType: keyed, DataType: nftables.TypeIPAddr},
	}
	for _, s := range []*nftables.Set{r.services, r.endpoints} {
		if err := conn.AddSet(s, nil); err != nil {
			return nil, fmt.Errorf("making a map: %w", err)
		}
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("making maps: %w", err)
	}
	return r, nil
}

// fill writes everything in transactions of 400 elements a message, as large as a message may be.
func (r *raw) fill(n, each int) error {
	const message = 400
	var services, endpoints []nftables.SetElement
	flush := func(least int) error {
		for set, list := range map[*nftables.Set]*[]nftables.SetElement{r.services: &services, r.endpoints: &endpoints} {
			if len(*list) == 0 || len(*list) < least {
				continue
			}
			if err := r.conn.SetAddElements(set, *list); err != nil {
				return fmt.Errorf("adding elements: %w", err)
			}
			*list = nil
		}
		return nil
	}
	for i := range n {
		ip := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		services = append(services, nftables.SetElement{Key: key4(ip), Val: []byte{0, 0, 0, byte(each)}})
		for e := range each {
			endpoints = append(endpoints, nftables.SetElement{Key: key4(ip, uint32(e)), Val: key4(endpointOf(i, e))})
		}
		if err := flush(message - each); err != nil {
			return err
		}
	}
	if err := flush(0); err != nil {
		return err
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("writing elements: %w", err)
	}
	return nil
}

// inEmpty runs f in a network namespace with nothing in it, which goes with it.
func inEmpty(f func() error) (err error) {
	dir, err := os.MkdirTemp("", "bench-netns-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	path := filepath.Join(dir, "net")
	defer func() { err = errors.Join(err, netns.Remove(path), os.Remove(dir)) }()
	if err := netns.Create(path); err != nil {
		return err
	}
	return netns.Do(path, f)
}

// proxyStart ends node1's kube-proxy, deletes its rules, and starts it; it returns how long its first write took by its own account.
func (b *bench) proxyStart(ctx context.Context) (time.Duration, error) {
	pids, err := b.processes()
	if err != nil {
		return 0, err
	}
	// The kubelet lives on, and is in the same namespace.
	inside := fmt.Sprintf("/proc/%d/ns/net", pids["node1/kubelet"])
	if err := b.cluster("kill", "node1/kube-proxy"); err != nil {
		return 0, err
	}
	err = netns.Do(inside, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.DelTable(&nftables.Table{Name: "kube-proxy", Family: nftables.TableFamilyIPv4})
		return conn.Flush()
	})
	if err != nil {
		return 0, fmt.Errorf("deleting kube-proxy's rules: %w", err)
	}
	if err := b.cluster("start", "node1/kube-proxy"); err != nil {
		return 0, err
	}
	var took time.Duration
	err = b.until(ctx, "kube-proxy has written its rules", func() (bool, error) {
		text, err := getInside(ctx, inside, "http://127.0.0.1:10249/metrics")
		if err != nil {
			return false, err
		}
		took, err = firstWrite(text)
		return took > 0, err
	})
	return took, err
}

// firstWrite is the sum of all writes in kube-proxy's metrics, soon after its start.
func firstWrite(metrics string) (time.Duration, error) {
	var sum float64
	for line := range strings.Lines(metrics) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(name, "kubeproxy_sync_proxy_rules_duration_seconds_sum") {
			continue
		}
		x, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("reading %q: %w", line, err)
		}
		sum += x
	}
	return time.Duration(sum * float64(time.Second)), nil
}

// getInside asks a server that listens inside a network namespace only.
func getInside(ctx context.Context, path, url string) (string, error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, addr string) (conn net.Conn, err error) {
		err = netns.Do(path, func() error { conn, err = net.Dial(network, addr); return err })
		return conn, err
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
