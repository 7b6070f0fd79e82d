//lint:file-ignore SA1019 Endpoints are deprecated for users, and still served.

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/pkg/testcluster"
)

// TestDualStack is what controllers do in clusters of both families, in either order, and of IPv6 alone.
func TestDualStack(t *testing.T) {
	t.Parallel()
	const four, six = "10.96.0.0/24", "fd00:96::/112"
	for _, tc := range []struct {
		name, services, pods, advertise string
		sizes                           []string
		want                            []string // of nodes, the first of which is steady
	}{
		{"four first", four + "," + six, "10.244.0.0/22,fd00:244::/48", "192.0.2.1", nil,
			[]string{"10.244.0.0/24,fd00:244::/64", "10.244.1.0/24,fd00:244:0:1::/64", "10.244.2.0/24,fd00:244:0:2::/64"}},
		{"six first", six + "," + four, "fd00:244::/56,10.244.0.0/16", "2001:db8::1", []string{"--node-cidr-mask-size-ipv4=26", "--node-cidr-mask-size-ipv6=72"},
			[]string{"fd00:244::/72,10.244.0.0/26", "fd00:244:0:0:100::/72,10.244.0.64/26", "fd00:244:0:0:200::/72,10.244.0.128/26"}},
		{"six alone", six, "fd00:244::/62", "2001:db8::1", nil, []string{"fd00:244::/64", "fd00:244:0:1::/64", "fd00:244:0:2::/64"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := testcluster.Start(t, "--service-cluster-ip-range="+tc.services, "--advertise-address="+tc.advertise)
			args := append([]string{"--cluster-cidr=" + tc.pods, "--service-cluster-ip-range=" + tc.services}, tc.sizes...)
			t.Run("first run", func(t *testing.T) {
				w := newWorldOver(t, c, args...)
				w.ranges("steady", tc.want[0])
				w.player.add(w, "a")
				w.ranges("a", tc.want[1])
			})
			t.Run("after a restart", func(t *testing.T) {
				w := newWorldOver(t, c, args...)
				w.player.add(w, "b")
				w.ranges("b", tc.want[2])
				if err := w.kube.CoreV1().Nodes().Delete(w.Context(), "a", metav1.DeleteOptions{}); err != nil {
					w.Fatal(err)
				}
				w.player.add(w, "c")
				w.ranges("c", tc.want[1]) // what another has left
				if tc.name == "four first" {
					w.sub("waiting", testWaitingForRanges)
				}
				w.player.set(func() { w.player.nodes["steady"] = true })
				w.sub("endpoints", func(w *world, ns string) {
					testBothFamilies(w, ns, strings.Count(tc.services, ",") == 1, strings.HasPrefix(tc.services, four))
				})
			})
		})
	}
}

// ranges waits until a node has its ranges.
func (w *world) ranges(node, want string) {
	w.Helper()
	w.until("the ranges of "+node, func() error {
		n := must(w.kube.CoreV1().Nodes().Get(w.Context(), node, metav1.GetOptions{}))(w)
		if len(n.Spec.PodCIDRs) > 0 && n.Spec.PodCIDR != n.Spec.PodCIDRs[0] {
			w.Errorf("%s has %s, and of many %v", node, n.Spec.PodCIDR, n.Spec.PodCIDRs)
		}
		return same("ranges", strings.Join(n.Spec.PodCIDRs, ","), want)
	})
}

// testWaitingForRanges is of a node for which nothing of IPv4 is left: it gets nothing of IPv6 either, until another goes.
func testWaitingForRanges(w *world, ns string) {
	w.player.add(w, "d")
	w.ranges("d", "10.244.3.0/24,fd00:244:0:3::/64")
	w.player.add(w, "e")
	w.until("the event that tells it", func() error {
		list := must(w.kube.CoreV1().Events("default").List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=e,reason=CIDRNotAvailable"}))(w)
		if len(list.Items) == 0 {
			return fmt.Errorf("there is none")
		}
		return same("message", list.Items[0].Message, "Node e status is now: CIDRNotAvailable")
	})
	w.ranges("e", "")
	for _, name := range []string{"d"} {
		if err := w.kube.CoreV1().Nodes().Delete(w.Context(), name, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	w.ranges("e", "10.244.3.0/24,fd00:244:0:3::/64")
}

// withIPs has pods of an image run with the addresses that their annotation names.
func (w *world) withIPs(image string) {
	w.player.script(image, func(ctx context.Context, o *corev1.Pod) {
		if pod.Ready(o) {
			return
		}
		o.Status.PodIPs = nil
		for ip := range strings.SplitSeq(o.Annotations["ips"], ",") {
			o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: ip})
		}
		o.Status.Phase, o.Status.PodIP = corev1.PodRunning, o.Status.PodIPs[0].IP
		pod.SetCondition(&o.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, time.Now())
		w.kube.CoreV1().Pods(o.Namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{}) // a conflict is tried again at the next look
	})
}

// bothBehind is the slices of a service as «IPv4 10.0.0.1 10.0.0.2; IPv6 …», and its Endpoints after a bar.
func (w *world) bothBehind(ns, service string) string {
	w.Helper()
	byFamily := map[discoveryv1.AddressType][]string{}
	for _, s := range w.slices(ns, service) {
		byFamily[s.AddressType] = append(byFamily[s.AddressType], addressesOf(s)...)
	}
	var text []string
	for _, f := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		if all, ok := byFamily[f]; ok {
			slices.Sort(all)
			text = append(text, strings.TrimSpace(string(f)+" "+strings.Join(all, " ")))
		}
	}
	out := strings.Join(text, "; ") + " |"
	e, err := w.kube.CoreV1().Endpoints(ns).Get(w.Context(), service, metav1.GetOptions{})
	if err == nil {
		for _, s := range e.Subsets {
			for _, a := range s.Addresses {
				out += " " + a.IP
			}
		}
	}
	return out
}

func addressesOf(s discoveryv1.EndpointSlice) (all []string) {
	for _, e := range s.Endpoints {
		all = append(all, e.Addresses...)
	}
	return all
}

// testBothFamilies is who stands behind services of every policy: pods of both families, of one, and on the node's network.
func testBothFamilies(w *world, ns string, dual, fourFirst bool) {
	ctx, web := w.Context(), map[string]string{"app": "web"}
	w.withIPs("families")
	ips := map[string]string{"both": "10.244.9.1,fd00::1", "host": "198.18.0.7,fd00:18::7", "four": "10.244.9.4", "six": "fd00::6"}
	for name, list := range ips {
		w.pod(ns, name, 8080, func(p *corev1.Pod) {
			p.Annotations = map[string]string{"ips": list}
			p.Spec.Containers[0].Image, p.Spec.HostNetwork = "families", name == "host"
			p.Spec.Containers[0].Ports[0].HostPort = 0
		})
	}
	const four, six = "10.244.9.1 10.244.9.4 198.18.0.7", "fd00:18::7 fd00::1 fd00::6"
	only4, only6, neither := "IPv4 "+four+" | "+four, "IPv6 "+six+" | "+six, "IPv4 "+four+"; IPv6 "+six+" | "
	first := map[bool]string{true: four, false: six}[fourFirst]
	one := map[bool]string{true: only4, false: only6}[fourFirst]
	two := one
	if dual {
		two = neither + first
	}
	for name, c := range map[string]struct {
		policy   corev1.IPFamilyPolicy
		families []corev1.IPFamily
		headless bool
		want     string
	}{
		"single":   {corev1.IPFamilyPolicySingleStack, nil, false, one},
		"single6":  {corev1.IPFamilyPolicySingleStack, []corev1.IPFamily{corev1.IPv6Protocol}, false, only6},
		"prefers":  {corev1.IPFamilyPolicyPreferDualStack, nil, false, two},
		"headless": {corev1.IPFamilyPolicyPreferDualStack, nil, true, two},
	} {
		w.service(ns, name, web, func(s *corev1.Service) {
			s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &c.policy, c.families
			if c.headless {
				s.Spec.ClusterIP = corev1.ClusterIPNone
			}
		})
		w.until("those behind "+name, func() error { return same(name, w.bothBehind(ns, name), c.want) })
	}
	if !dual {
		return
	}
	services := w.kube.CoreV1().Services(ns)
	for _, step := range []struct{ policy, want string }{{"SingleStack", one}, {"RequireDualStack", two}} {
		for _, name := range []string{"prefers", "headless"} {
			must(services.Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"ipFamilyPolicy":"`+step.policy+`"}}`), metav1.PatchOptions{}))(w)
			w.until("those behind "+name+" once it is "+step.policy, func() error { return same(name, w.bothBehind(ns, name), step.want) })
		}
	}
	// Of Endpoints that people make, both families are mirrored, each into slices of its own.
	w.service(ns, "manual", nil)
	must(w.kube.CoreV1().Endpoints(ns).Create(ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "manual"}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.5"}, {IP: "2001:db8::5"}}, Ports: []corev1.EndpointPort{{Name: "http", Port: 80}},
	}}}, metav1.CreateOptions{}))(w)
	w.until("the mirrored", func() error {
		return same("manual", w.bothBehind(ns, "manual"), "IPv4 192.0.2.5; IPv6 2001:db8::5 | 192.0.2.5 2001:db8::5")
	})
	for _, s := range w.slices(ns, "manual") {
		for _, a := range addressesOf(s) {
			if ip := netip.MustParseAddr(a); ip.Is4() != (s.AddressType == discoveryv1.AddressTypeIPv4) {
				w.Errorf("%s is in a slice of %s", a, s.AddressType)
			}
		}
	}
}
