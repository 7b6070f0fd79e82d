package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/hack/netns"
	"pilothouse.dev/pkg/client"
)

const (
	// dnsIn is how long the name server may take until it answers.
	dnsIn = 60 * time.Second
	// answerIn is how long one answer may.
	answerIn = 500 * time.Millisecond
)

// awaitDNS returns when every node is answered at the DNS address.
func (c *cluster) awaitDNS(ctx context.Context, kube kubernetes.Interface, address netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, dnsIn)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range c.running() {
		g.Go(func() error {
			for {
				err := c.dnsAnswers(gctx, n, address)
				if err == nil {
					return nil
				}
				select {
				case <-gctx.Done():
					return fmt.Errorf("waiting for DNS to answer %s: %w", n.Name, errors.Join(gctx.Err(), err))
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%w (%s; a cluster without it: up -dns=false)", err, dnsPods(context.WithoutCancel(ctx), kube))
	}
	return nil
}

// dnsAnswers asks, as a node, where the API server is.
func (c *cluster) dnsAnswers(ctx context.Context, n *node, server netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	var conn net.Conn
	err := netns.Do(c.nodeNetns(n), func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "udp", netip.AddrPortFrom(server, 53).String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	want := c.addr().kubernetes()
	kind := dnsmessage.TypeA
	if want.Is6() {
		kind = dnsmessage.TypeAAAA
	}
	got, err := resolve(ctx, conn, "kubernetes.default.svc.cluster.local.", kind)
	if err != nil {
		return err
	}
	if !slices.Contains(got, want) {
		return fmt.Errorf("it says that the API server is at %v, not %s", got, want)
	}
	return nil
}

// resolve asks one question and returns the addresses of the answer.
func resolve(ctx context.Context, conn net.Conn, name string, kind dnsmessage.Type) ([]netip.Addr, error) {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	id := uint16(rand.Uint32())
	question := dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}
	ask := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{question}}
	packed, err := ask.Pack()
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", name, err)
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(buf[:n]); err != nil || answer.ID != id {
		return nil, fmt.Errorf("asking for %s: the answer is none (%w)", name, err)
	}
	if answer.RCode != dnsmessage.RCodeSuccess {
		return nil, fmt.Errorf("asking for %s: %s", name, answer.RCode)
	}
	var addrs []netip.Addr
	for _, r := range answer.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			addrs = append(addrs, netip.AddrFrom4(b.A))
		case *dnsmessage.AAAAResource:
			addrs = append(addrs, netip.AddrFrom16(b.AAAA))
		}
	}
	return addrs, nil
}

// dnsPods says how many of the name server's pods are ready.
func dnsPods(ctx context.Context, kube kubernetes.Interface) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	d, err := kube.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, dnsDeployment, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d of %d pods are ready", d.Status.ReadyReplicas, *d.Spec.Replicas)
}

// dnsState is what status says of the name server: which nodes it answers, and how many pods it has.
func (c *cluster) dnsState(ctx context.Context) string {
	if c.state.NoDNS {
		return "left out"
	}
	var answered, missed []string
	for _, n := range c.running() {
		if err := c.dnsAnswers(ctx, n, c.addr().dns()); err != nil {
			missed = append(missed, fmt.Sprintf("not %s (%v)", n.Name, err))
		} else {
			answered = append(answered, n.Name)
		}
	}
	state := "answers " + strings.Join(append(answered, missed...), ", ")
	if len(answered)+len(missed) == 0 {
		state = "has no node"
	}
	cfg, err := client.Load(c.adminKubeconfig(), "cluster")
	if err != nil {
		return state + "; " + err.Error()
	}
	clients, err := client.New(cfg)
	if err != nil {
		return state + "; " + err.Error()
	}
	return state + "; " + dnsPods(ctx, clients.Kube)
}
