// Package servicecidr says of ServiceCIDRs that they are ready, which has API servers give addresses of them, and keeps those that are
// being deleted until no IPAddress depends on them alone.
package servicecidr

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t     loop.Tools
	cidrs networkinglisters.ServiceCIDRLister
	ips   networkinglisters.IPAddressLister
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	net := t.Informers.Networking().V1()
	c := &controller{t: t, cidrs: net.ServiceCIDRs().Lister(), ips: net.IPAddresses().Lister()}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "servicecidrs.networking.k8s.io", Wakes: loop.Func("itself, and those that overlap it and go", c.changed)},
			{Resource: "ipaddresses.networking.k8s.io", Wakes: loop.Func("ServiceCIDRs that hold it and go", c.freed)},
		},
		Reconcile: c.reconcile,
	}
}

// changed wakes a ServiceCIDR, and those being deleted whose addresses it may take over, or no longer does.
func (c *controller) changed(e loop.Event) []loop.Key {
	last := e.Last().(*networkingv1.ServiceCIDR)
	keys := []loop.Key{loop.KeyOf(last)}
	return append(keys, c.going(func(other []netip.Prefix) bool { return overlap(ranges(last), other) }, last.Name)...)
}

// freed wakes those that wait for an address to go.
func (c *controller) freed(e loop.Event) []loop.Key {
	if e.New != nil && e.Old != nil {
		return nil
	}
	ip, err := netip.ParseAddr(e.Last().GetName())
	if err != nil {
		return nil
	}
	return c.going(func(all []netip.Prefix) bool { return contains(all, ip) }, "")
}

// going are the ServiceCIDRs being deleted, but one, whose ranges concern.
func (c *controller) going(concern func([]netip.Prefix) bool, but string) []loop.Key {
	all, err := c.cidrs.List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, o := range all {
		if o.DeletionTimestamp != nil && o.Name != but && concern(ranges(o)) {
			keys = append(keys, loop.KeyOf(o))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	have, err := c.cidrs.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	others, err := c.cidrs.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	addresses, err := c.ips.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	want, again := next(have, func() bool { return needed(have, others, parse(addresses)) }, time.Now())
	if len(want.Finalizers) < len(have.Finalizers) { // it may go, as far as the caches know
		return 0, c.let(ctx, have, want)
	}
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.NetworkingV1().ServiceCIDRs(), have, want); err != nil {
		return 0, err
	}
	return again, nil
}

// let lets a ServiceCIDR go, unless the newest state knows better than the caches.
func (c *controller) let(ctx context.Context, have, want *networkingv1.ServiceCIDR) error {
	net := c.t.Clients.Kube.NetworkingV1()
	cidrs, err := net.ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing ranges: %w", err)
	}
	ips, err := net.IPAddresses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	if needed(have, pointers(cidrs.Items), parse(pointers(ips.Items))) {
		return loop.ErrStale
	}
	_, err = loop.Commit(ctx, net.ServiceCIDRs(), have, want)
	return err
}

func pointers[T any](items []T) []*T {
	all := make([]*T, len(items))
	for i := range items {
		all[i] = &items[i]
	}
	return all
}

func parse(objects []*networkingv1.IPAddress) []netip.Addr {
	var all []netip.Addr
	for _, o := range objects {
		if ip, err := netip.ParseAddr(o.Name); err == nil {
			all = append(all, ip)
		}
	}
	return all
}
