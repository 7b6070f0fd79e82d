package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

const (
	networkTitle   = "Services: rules and packets, against the same maps and packets without Pilothouse"
	networkRoom    = "network"
	servicesMany   = 10_000
	servicesFew    = 10
	endpointsEach  = 5
	ruleChanges    = 200
	readyChanges   = 100
	changePause    = 60 * time.Millisecond // more than kube-proxy's --min-sync-period: each change is alone
	networkNodes   = 3
	firstSyncTries = 3
)

// network measures what services cost: rules for few and for many, a change's way into the kernels, and packets.
func (b *bench) network(ctx context.Context) error {
	if err := b.cluster("down"); err != nil {
		return err
	}
	if err := b.cluster("up", "-nodes", fmt.Sprint(networkNodes), "-dns=false"); err != nil {
		return err
	}
	if err := b.connect(); err != nil {
		return err
	}
	if err := b.room(ctx, networkRoom); err != nil {
		return err
	}
	if err := b.proxyMemory(ctx, "idle", "aim: 30"); err != nil {
		return err
	}
	if err := b.reaction(ctx); err != nil {
		return err
	}
	calls, err := b.openCalls(ctx)
	if err != nil {
		return err
	}
	have := 0
	for _, n := range []int{servicesFew, servicesMany} {
		if err := b.services(ctx, have, n); err != nil {
			return err
		}
		have = n
		if n == servicesMany {
			if err := b.proxyMemory(ctx, fmt.Sprintf("%d services × %d", n, endpointsEach), "aim: 90"); err != nil {
				return err
			}
			if err := b.firstSync(ctx); err != nil {
				return err
			}
		}
		if err := b.ruleChange(ctx, n); err != nil {
			return err
		}
		if err := calls.measure(ctx, b, n); err != nil {
			return err
		}
	}
	return nil
}

// proxyMemory reads node1's kube-proxy.
func (b *bench) proxyMemory(ctx context.Context, when, aim string) error {
	if err := pause(ctx, settle); err != nil {
		return err
	}
	pids, err := b.processes()
	if err != nil {
		return err
	}
	rss, anon, err := resident(pids["node1/kube-proxy"])
	if err != nil {
		return err
	}
	b.report.add(networkTitle, row{"kube-proxy, " + when + ": resident MiB (anonymous)", mib([2]int{rss, anon}), aim, ""})
	return nil
}

// serviceName and what follows are the many services: addresses of the cluster's service range are the API server's to choose.
func serviceName(i int) string { return fmt.Sprintf("many-%06d", i) }

func endpointOf(service, i int) netip.Addr {
	e := service*endpointsEach + i
	return netip.AddrFrom4([4]byte{10, 250, byte(e >> 8), byte(e)})
}

// services makes the services from number have+1 to n, each with a slice that nobody else manages.
func (b *bench) services(ctx context.Context, have, n int) error {
	_, err := many(ctx, n-have, func(ctx context.Context, _ int, key string) error {
		var i int
		if _, err := fmt.Sscanf(key, "many-%d", &i); err != nil {
			return fmt.Errorf("reading %q: %w", key, err)
		}
		i += have
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		if _, err := b.clients.Kube.CoreV1().Services(networkRoom).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making a service: %w", err)
		}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: serviceName(i), Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(i), discoveryv1.LabelManagedBy: "bench"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
		}
		for e := range endpointsEach {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{endpointOf(i, e).String()}})
		}
		if _, err := b.clients.Kube.DiscoveryV1().EndpointSlices(networkRoom).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making a slice: %w", err)
		}
		return nil
	})
	return err
}

// firstSync starts node1's kube-proxy anew, on a kernel without its table, and reads from its own metric how long it wrote; beside that the same
// elements are written straight into a kernel.
func (b *bench) firstSync(ctx context.Context) error {
	var ours, raw samples
	for range firstSyncTries {
		took, err := b.proxyStart(ctx)
		if err != nil {
			return err
		}
		ours = append(ours, took)
		if took, err = rawRules(servicesMany, endpointsEach); err != nil {
			return err
		}
		raw = append(raw, took)
	}
	a, r := ours.at(50), raw.at(50)
	b.report.add(networkTitle, row{fmt.Sprintf("%d services × %d: first sync, informers in step (aim: 400 ms)", servicesMany, endpointsEach), millis(a), millis(r), times(a, r)})
	return nil
}

// ruleChange replaces one endpoint of one service again and again: from when we see the slice's event to when node1's kernel has it.
func (b *bench) ruleChange(ctx context.Context, n int) error {
	watched := serviceName(n / 2)
	pids, err := b.processes()
	if err != nil {
		return err
	}
	rules, err := watchRules(pids["node1/kube-proxy"])
	if err != nil {
		return err
	}
	defer rules.close()
	events, err := b.clients.Kube.DiscoveryV1().EndpointSlices(networkRoom).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", watched).String()})
	if err != nil {
		return fmt.Errorf("watching a slice: %w", err)
	}
	defer events.Stop()
	before, err := b.processorTime()
	if err != nil {
		return err
	}
	var took samples
	for i := range ruleChanges {
		addr := netip.AddrFrom4([4]byte{10, 251, byte(i >> 8), byte(i)})
		body := fmt.Sprintf(`[{"op":"replace","path":"/endpoints/2/addresses/0","value":%q}]`, addr)
		heard := rules.expect(addr)
		if _, err := b.clients.Kube.DiscoveryV1().EndpointSlices(networkRoom).Patch(ctx, watched, types.JSONPatchType, []byte(body), metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("replacing an endpoint: %w", err)
		}
		var seen time.Time
		for seen.IsZero() {
			e, ok := <-events.ResultChan()
			if !ok {
				return fmt.Errorf("the watch of a slice ended")
			}
			if s, is := e.Object.(*discoveryv1.EndpointSlice); is && s.Endpoints[2].Addresses[0] == addr.String() {
				seen = time.Now()
			}
		}
		at, err := heard(ctx)
		if err != nil {
			return err
		}
		took = append(took, max(at.Sub(seen), 0))
		if err := pause(ctx, changePause); err != nil {
			return err
		}
	}
	after, err := b.processorTime()
	if err != nil {
		return err
	}
	raw, err := rawChange(n, endpointsEach)
	if err != nil {
		return err
	}
	each := (after["kube-proxy"] - before["kube-proxy"]) / (ruleChanges * networkNodes)
	b.report.add(networkTitle,
		row{fmt.Sprintf("one endpoint of %d services changes: watch event → kernel, p50", n), micros(took.at(50)), micros(raw), times(took.at(50), raw)},
		row{"… p99 (aim: 2 ms)", micros(took.at(99)), "", ""},
		row{"… processor time of a kube-proxy a change, all told (aim: 0.3 ms)", micros(each), "", ""})
	return nil
}

// reaction is from a pod's readiness, written to the API, to the rules of every node: API server, controller and proxies together. The pods are on a
// node that nobody runs, so no kubelet has a part in it.
func (b *bench) reaction(ctx context.Context) error {
	if err := b.fakeNode(ctx, "nobody"); err != nil {
		return err
	}
	labels := map[string]string{"app": "react"}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "react"}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := b.clients.Kube.CoreV1().Services(networkRoom).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making a service: %w", err)
	}
	pods := b.clients.Kube.CoreV1().Pods(networkRoom)
	tell := func(name string, addr netip.Addr, ready bool) error {
		is := corev1.ConditionFalse
		if ready {
			is = corev1.ConditionTrue
		}
		body := fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":%q}]}}`, addr, addr, is)
		_, err := pods.Patch(ctx, name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, "status")
		if err != nil {
			return fmt.Errorf("telling a pod's readiness: %w", err)
		}
		return nil
	}
	addrs := map[string]netip.Addr{"stays": netip.MustParseAddr("10.252.0.1"), "turns": netip.MustParseAddr("10.252.0.2")}
	for name, addr := range addrs {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: podSpec()}
		p.Spec.NodeName = "nobody"
		if _, err := pods.Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making a pod: %w", err)
		}
		if err := tell(name, addr, true); err != nil {
			return err
		}
	}
	pids, err := b.processes()
	if err != nil {
		return err
	}
	var nodes []*ruleWatch
	for i := range networkNodes {
		w, err := watchRules(pids[fmt.Sprintf("node%d/kube-proxy", i+1)])
		if err != nil {
			return err
		}
		defer w.close()
		nodes = append(nodes, w)
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	var took samples
	for i := range readyChanges {
		began := time.Now()
		var heard []func(context.Context) (time.Time, error)
		for _, n := range nodes {
			heard = append(heard, n.expect(addrs["turns"]))
		}
		if err := tell("turns", addrs["turns"], i%2 == 1); err != nil {
			return err
		}
		var last time.Time
		for _, h := range heard {
			at, err := h(ctx)
			if err != nil {
				return err
			}
			if at.After(last) {
				last = at
			}
		}
		took = append(took, last.Sub(began))
		if err := pause(ctx, changePause); err != nil {
			return err
		}
	}
	b.report.add(networkTitle, row{fmt.Sprintf("a pod turns ready or unready → rules of all %d nodes, p50", networkNodes), millis(took.at(50)), "", ""},
		row{"… p99 (aim: 150 ms)", millis(took.at(99)), "", ""})
	grace := int64(0)
	return pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &grace}, metav1.ListOptions{})
}

func micros(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// key4 is an IPv4 address and numbers as they lie in a map of the kernel: each padded to four bytes.
func key4(addr netip.Addr, rest ...uint32) []byte {
	a := addr.As4()
	out := a[:]
	for _, n := range rest {
		out = binary.BigEndian.AppendUint32(out, n)
	}
	return out
}
