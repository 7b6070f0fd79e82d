//lint:file-ignore SA1019 Endpoints are deprecated for users, and still served.

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestEndpoints is who stands behind services, in slices of three, and the ranges that services get addresses of.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--max-endpoints-per-slice=3")
	w.sub("slices", testSlices)
	w.sub("conditions", testEndpointConditions)
	w.sub("hints", testHints)
	w.sub("mirrored", testMirrored)
	w.sub("ranges", testRanges)
}

func (w *world) service(ns, name string, selector map[string]string, change ...func(*corev1.Service)) *corev1.Service {
	w.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: selector, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}}}}
	for _, c := range change {
		c(s)
	}
	return must(w.kube.CoreV1().Services(ns).Create(w.Context(), s, metav1.CreateOptions{}))(w)
}

func (w *world) pod(ns, name string, port int32, change ...func(*corev1.Pod)) {
	w.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "v1", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: port}}}}}}
	for _, c := range change {
		c(p)
	}
	must(w.kube.CoreV1().Pods(ns).Create(w.Context(), p, metav1.CreateOptions{}))(w)
}

func (w *world) slices(ns, service string) []discoveryv1.EndpointSlice {
	w.Helper()
	list := must(w.kube.DiscoveryV1().EndpointSlices(ns).List(w.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service}))(w)
	return list.Items
}

// behind is the pods of a service's slices as «name:port», with a ? when not ready, sorted.
func behind(slicesOf []discoveryv1.EndpointSlice) string {
	var all []string
	for _, s := range slicesOf {
		for _, e := range s.Endpoints {
			text := "nobody"
			if e.TargetRef != nil {
				text = e.TargetRef.Name
			}
			for _, p := range s.Ports {
				text += fmt.Sprintf(":%d", *p.Port)
			}
			if !*e.Conditions.Ready {
				text += "?"
			}
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func same(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s: got %q, want %q", what, got, want)
	}
	return nil
}

func testSlices(w *world, ns string) {
	ctx, web := w.Context(), map[string]string{"app": "web"}
	w.service(ns, "web", web, func(s *corev1.Service) { s.Labels = map[string]string{"team": "x"} })
	w.service(ns, "none", nil)
	w.until("the slice of nobody", func() error { return same("slices", fmt.Sprint(len(w.slices(ns, "web"))), "1") })
	for i := range 7 {
		w.pod(ns, fmt.Sprintf("p%d", i), 8080)
	}
	w.until("all seven", func() error {
		return same("pods", behind(w.slices(ns, "web")), "p0:8080 p1:8080 p2:8080 p3:8080 p4:8080 p5:8080 p6:8080")
	})
	before := map[types.UID]string{}
	var changing string
	for _, s := range w.slices(ns, "web") {
		before[s.UID] = s.ResourceVersion
		if len(s.Endpoints) > 3 {
			w.Errorf("slice %s has %d endpoints", s.Name, len(s.Endpoints))
		}
		if l := s.Labels; l[discoveryv1.LabelManagedBy] != "endpointslice-controller.k8s.io" || l["team"] != "x" || s.OwnerReferences[0].Name != "web" {
			w.Errorf("slice %s: labels %v, owners %v", s.Name, l, s.OwnerReferences)
		}
		if s.Annotations[corev1.EndpointsLastChangeTriggerTime] == "" {
			w.Errorf("slice %s does not say since when", s.Name)
		}
		for _, e := range s.Endpoints {
			if e.TargetRef.Name == "p3" {
				changing = s.Name
			}
		}
	}
	if len(before) < 3 {
		w.Errorf("%d slices of three for seven", len(before))
	}

	// One pod's change rewrites one slice.
	w.unready(ns, "p3")
	w.until("p3 not ready", func() error {
		return same("pods", behind(w.slices(ns, "web")), "p0:8080 p1:8080 p2:8080 p3:8080? p4:8080 p5:8080 p6:8080")
	})
	for _, s := range w.slices(ns, "web") {
		if changed := s.ResourceVersion != before[s.UID]; changed != (s.Name == changing) {
			w.Errorf("slice %s changed: %v", s.Name, changed)
		}
	}

	// Ports that the pods name differently.
	w.pod(ns, "other", 9090)
	w.until("the other port", func() error {
		return same("pods", behind(w.slices(ns, "web")), "other:9090 p0:8080 p1:8080 p2:8080 p3:8080? p4:8080 p5:8080 p6:8080")
	})
	w.until("Endpoints that say the same", func() error {
		e, err := w.kube.CoreV1().Endpoints(ns).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		var got []string
		for _, s := range e.Subsets {
			got = append(got, fmt.Sprintf("%d+%d:%d", len(s.Addresses), len(s.NotReadyAddresses), s.Ports[0].Port))
		}
		return same("subsets", strings.Join(got, " "), "6+1:8080 1+0:9090")
	})

	// A pod that loses its label is no longer behind, one that gains it is.
	relabel := func(name, app string) {
		w.Helper()
		must(w.kube.CoreV1().Pods(ns).Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"app":%q}}}`, app), metav1.PatchOptions{}))(w)
	}
	for i := range 7 {
		relabel(fmt.Sprintf("p%d", i), "gone")
	}
	w.until("only the other", func() error { return same("pods", behind(w.slices(ns, "web")), "other:9090") })
	relabel("p1", "web")
	w.until("one that came back", func() error { return same("pods", behind(w.slices(ns, "web")), "other:9090 p1:8080") })

	// What others do to a slice is set right.
	s := w.slices(ns, "web")[0]
	if err := w.kube.DiscoveryV1().EndpointSlices(ns).Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("a deleted slice made again", func() error { return same("pods", behind(w.slices(ns, "web")), "other:9090 p1:8080") })

	if n := len(w.slices(ns, "none")); n > 0 {
		w.Errorf("%d slices of a service without a selector", n)
	}
	if err := w.kube.CoreV1().Services(ns).Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the end of all", func() error {
		_, err := w.kube.CoreV1().Endpoints(ns).Get(ctx, "web", metav1.GetOptions{})
		if n := len(w.slices(ns, "web")); n > 0 || !apierrors.IsNotFound(err) {
			return fmt.Errorf("%d slices, endpoints: %v", n, err)
		}
		return nil
	})
}

// unready has a pod no longer ready, for good.
func (w *world) unready(ns, name string) {
	w.Helper()
	w.player.script("held", func(context.Context, *corev1.Pod) {})
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), name, types.StrategicMergePatchType, []byte(`{"spec":{"containers":[{"name":"c","image":"held"}]}}`), metav1.PatchOptions{}))(w)
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), name, types.StrategicMergePatchType, []byte(`{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`), metav1.PatchOptions{}, "status"))(w)
}

func testEndpointConditions(w *world, ns string) {
	ctx, web := w.Context(), map[string]string{"app": "web"}
	w.service(ns, "web", web)
	w.service(ns, "heads", web, func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.PublishNotReadyAddresses = "None", true })
	w.pod(ns, "going", 8080, func(p *corev1.Pod) {
		p.Finalizers, p.Spec.Hostname, p.Spec.Subdomain = []string{"example.com/hold"}, "first", "heads"
	})
	w.until("one ready", func() error { return same("pods", behind(w.slices(ns, "web")), "going:8080") })
	if err := w.kube.CoreV1().Pods(ns).Delete(ctx, "going", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	text := func(e discoveryv1.Endpoint) string {
		host := ""
		if e.Hostname != nil {
			host = *e.Hostname
		}
		return fmt.Sprintf("ready %v serving %v terminating %v on %s as %q", *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating, *e.NodeName, host)
	}
	for service, want := range map[string]string{
		"web":   `ready false serving true terminating true on steady as ""`,
		"heads": `ready true serving true terminating true on steady as "first"`,
	} {
		w.until("the conditions in "+service, func() error {
			got := ""
			for _, s := range w.slices(ns, service) {
				if _, headless := s.Labels[corev1.IsHeadlessService]; headless != (service == "heads") {
					return fmt.Errorf("labels %v", s.Labels)
				}
				for _, e := range s.Endpoints {
					got += text(e)
				}
			}
			return same(service, got, want)
		})
	}
	must(w.kube.CoreV1().Pods(ns).Patch(ctx, "going", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{}))(w)
	w.until("nobody", func() error { return same("pods", behind(w.slices(ns, "web")), "") })
}

func testHints(w *world, ns string) {
	ctx := w.Context()
	for node, zone := range map[string]string{"steady": "a", "other": "b"} {
		if node != "steady" {
			w.player.add(w, node)
		}
		must(w.kube.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"topology.kubernetes.io/zone":%q}}}`, zone), metav1.PatchOptions{}))(w)
		cpu := fmt.Appendf(nil, `{"status":{"allocatable":{"cpu":%q},"capacity":{"cpu":%q}}}`, resource.NewQuantity(4, resource.DecimalSI).String(), "4")
		must(w.kube.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, cpu, metav1.PatchOptions{}, "status"))(w)
	}
	near := corev1.ServiceTrafficDistributionPreferSameNode
	close := corev1.ServiceTrafficDistributionPreferClose
	web := map[string]string{"app": "web"}
	w.service(ns, "plain", web)
	w.service(ns, "zone", web, func(s *corev1.Service) { s.Spec.TrafficDistribution = &close })
	w.service(ns, "node", web, func(s *corev1.Service) { s.Spec.TrafficDistribution = &near })
	w.service(ns, "auto", web, func(s *corev1.Service) { s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"} })
	for i, node := range []string{"steady", "other", "steady", "other"} {
		w.pod(ns, fmt.Sprintf("p%d", i), 8080, func(p *corev1.Pod) { p.Spec.NodeName = node })
	}
	hints := func(service string) string {
		var all []string
		for _, s := range w.slices(ns, service) {
			for _, e := range s.Endpoints {
				text := e.TargetRef.Name + " in " + *e.Zone
				if e.Hints != nil {
					for _, z := range e.Hints.ForZones {
						text += " for " + z.Name
					}
					for _, n := range e.Hints.ForNodes {
						text += " for " + n.Name
					}
				}
				all = append(all, text)
			}
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	zones := "p0 in a for a, p1 in b for b, p2 in a for a, p3 in b for b"
	for service, want := range map[string]string{
		"plain": "p0 in a, p1 in b, p2 in a, p3 in b", "zone": zones, "auto": zones,
		"node": "p0 in a for a for steady, p1 in b for b for other, p2 in a for a for steady, p3 in b for b for other",
	} {
		w.until("the hints of "+service, func() error { return same(service, hints(service), want) })
	}
	must(w.kube.CoreV1().Services(ns).Patch(ctx, "auto", types.MergePatchType, []byte(`{"metadata":{"annotations":{"service.kubernetes.io/topology-mode":null}}}`), metav1.PatchOptions{}))(w)
	w.until("no hints", func() error { return same("auto", hints("auto"), "p0 in a, p1 in b, p2 in a, p3 in b") })
}

func testMirrored(w *world, ns string) {
	ctx, eps := w.Context(), w.kube.CoreV1().Endpoints(ns)
	w.service(ns, "ext", nil)
	e := must(eps.Create(ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "ext", Labels: map[string]string{"a": "b"}}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.7"}}, Ports: []corev1.EndpointPort{{Name: "http", Port: 81}}}}}, metav1.CreateOptions{}))(w)
	mirror := func(want string) func() error {
		return func() error {
			var all []string
			for _, s := range w.slices(ns, "ext") {
				if l := s.Labels; l[discoveryv1.LabelManagedBy] != "endpointslicemirroring-controller.k8s.io" || l["a"] != "b" || s.OwnerReferences[0].UID != e.UID {
					return fmt.Errorf("labels %v, owners %v", l, s.OwnerReferences)
				}
				for _, p := range s.Endpoints {
					all = append(all, fmt.Sprintf("%s:%d", p.Addresses[0], *s.Ports[0].Port))
				}
			}
			slices.Sort(all)
			return same("mirrored", strings.Join(all, " "), want)
		}
	}
	w.until("the mirror", mirror("192.0.2.7:81"))
	patch := func(body string) {
		w.Helper()
		must(eps.Patch(ctx, "ext", types.MergePatchType, []byte(body), metav1.PatchOptions{}))(w)
	}
	patch(`{"subsets":[{"addresses":[{"ip":"192.0.2.8"},{"ip":"2001:db8::8"}],"ports":[{"name":"http","port":82}]}]}`)
	w.until("what changed", mirror("192.0.2.8:82 2001:db8::8:82"))
	patch(`{"metadata":{"labels":{"endpointslice.kubernetes.io/skip-mirror":"true"}}}`)
	w.until("not mirrored by its label", mirror(""))
	patch(`{"metadata":{"labels":{"endpointslice.kubernetes.io/skip-mirror":null}}}`)
	w.until("mirrored again", mirror("192.0.2.8:82 2001:db8::8:82"))
	if err := eps.Delete(ctx, "ext", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("gone with its source", mirror(""))

	// With its service go Endpoints that people made.
	e = must(eps.Create(ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "ext", Labels: map[string]string{"a": "b"}}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.9"}}, Ports: []corev1.EndpointPort{{Name: "http", Port: 81}}}}}, metav1.CreateOptions{}))(w)
	must(eps.Create(ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "lock"}}, metav1.CreateOptions{}))(w)
	w.until("the second mirror", mirror("192.0.2.9:81"))
	if err := w.kube.CoreV1().Services(ns).Delete(ctx, "ext", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("nothing left", func() error {
		if _, err := eps.Get(ctx, "ext", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("endpoints: %v", err)
		}
		return mirror("")()
	})
	must(eps.Get(ctx, "lock", metav1.GetOptions{}))(w) // of no service, and nobody's business
}

func testRanges(w *world, ns string) {
	ctx, cidrs := w.Context(), w.kube.NetworkingV1().ServiceCIDRs()
	must(cidrs.Create(ctx, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: ns}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/28"}}}, metav1.CreateOptions{}))(w)
	ready := func(name, want string) func() error {
		return func() error {
			c, err := cidrs.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			got := "nothing"
			if cond := meta.FindStatusCondition(c.Status.Conditions, "Ready"); cond != nil {
				got = string(cond.Status)
			}
			return same(name, fmt.Sprint(got, c.Finalizers), want)
		}
	}
	w.until("the range ready", ready(ns, "True[networking.k8s.io/service-cidr-finalizer]"))
	w.until("the server's own range", ready("kubernetes", "True[networking.k8s.io/service-cidr-finalizer]"))
	w.until("a service in it", func() error {
		_, err := w.kube.CoreV1().Services(ns).Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"},
			Spec: corev1.ServiceSpec{ClusterIP: "10.97.0.7", Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
		return err
	})
	if err := cidrs.Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the range held by its address", ready(ns, "False[networking.k8s.io/service-cidr-finalizer]"))
	if err := w.kube.CoreV1().Services(ns).Delete(ctx, "s", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the end of the range", func() error {
		if _, err := cidrs.Get(ctx, ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
}
