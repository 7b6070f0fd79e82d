package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// NET-001: the service of the API server has endpoints and an EndpointSlice, which say the same.
func endpointsOfServer(r *row) {
	endpoints, err := r.kube.CoreV1().Endpoints(metav1.NamespaceDefault).Get(r.ctx, "kubernetes", metav1.GetOptions{})
	r.must(err, "getting the endpoints")
	slicesOf, err := r.kube.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(r.ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=kubernetes"})
	r.must(err, "listing the slices")
	if len(endpoints.Subsets) == 0 || len(slicesOf.Items) == 0 {
		r.Fatalf("%d subsets and %d slices, want one at least", len(endpoints.Subsets), len(slicesOf.Items))
	}
	var here, there []string
	for _, s := range endpoints.Subsets {
		for _, a := range s.Addresses {
			for _, p := range s.Ports {
				here = append(here, fmt.Sprintf("%s %s %s:%d", p.Name, p.Protocol, a.IP, p.Port))
			}
		}
	}
	for _, s := range slicesOf.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				r.Errorf("an endpoint in slice %s is not ready", s.Name)
			}
			for _, p := range s.Ports {
				there = append(there, fmt.Sprintf("%s %s %s:%d", *p.Name, *p.Protocol, e.Addresses[0], *p.Port))
			}
		}
	}
	slices.Sort(here)
	slices.Sort(there)
	r.equal("addresses in endpoints and in slices", here, there)
	if len(here) == 0 {
		r.Fatal("no address at all")
	}
}

// NET-002: the API server has a service, of https.
func serviceOfServer(r *row) {
	s, err := r.kube.CoreV1().Services(metav1.NamespaceDefault).Get(r.ctx, "kubernetes", metav1.GetOptions{})
	r.must(err, "getting the service")
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone {
		r.Errorf("the service has the address %q", s.Spec.ClusterIP)
	}
	r.equal("ports", len(s.Spec.Ports), 1)
	r.equal("port", fmt.Sprint(s.Spec.Ports[0].Name, " ", s.Spec.Ports[0].Port), "https 443")
}

// NET-035: it is found among the services of all namespaces.
func serviceFound(r *row) {
	list, err := r.kube.CoreV1().Services(metav1.NamespaceAll).List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing")
	if !slices.ContainsFunc(list.Items, func(s corev1.Service) bool { return s.Namespace == "default" && s.Name == "kubernetes" }) {
		r.Fatalf("no default/kubernetes among %d services", len(list.Items))
	}
}

// NET-011: Endpoints, which have a controller of their own only where they have a service's name.
func endpointsLife(r *row) {
	r.operate(operations{
		gvr: corev1.SchemeGroupVersion.WithResource("endpoints"), kind: "Endpoints", namespaced: true,
		manifest: `{subsets: [{addresses: [{ip: 10.0.0.24}], ports: [{name: http, port: 80, protocol: TCP}]}]}`,
		edit:     `{subsets: [{addresses: [{ip: 10.0.0.25}], ports: [{name: http-test, port: 8080, protocol: TCP}]}]}`,
		also: func(client dynamic.ResourceInterface, w *events, name string) {
			got, err := client.Patch(r.ctx, name, types.StrategicMergePatchType,
				[]byte(`{"metadata":{"labels":{"again":"yes"}},"subsets":[{"addresses":[{"ip":"10.0.0.26"}],"ports":[{"port":81}]}]}`), metav1.PatchOptions{})
			r.must(err, "patching the subsets")
			r.has("patching the subsets", got, r.tree(`{metadata: {labels: {again: "yes"}},
  subsets: [{addresses: [{ip: 10.0.0.26}], ports: [{port: 81, protocol: TCP}]}]}`))
			w.next(watch.Modified, name, func(o metav1.Object) bool { return o.GetLabels()["again"] == "yes" })
		},
	})
}

// NET-018
func endpointSlices(r *row) {
	r.operate(operations{
		gvr: discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), kind: "EndpointSlice", namespaced: true,
		manifest: `
addressType: IPv4
endpoints:
- {addresses: [10.1.2.3], conditions: {ready: true}}
- {addresses: [10.1.2.4], conditions: {ready: false}}
ports: [{name: http, port: 80, protocol: TCP}]`,
		edit: `{endpoints: [{addresses: [10.1.2.5]}]}`,
	})
}

// NET-021
func ingresses(r *row) {
	r.operate(operations{
		gvr: networkingv1.SchemeGroupVersion.WithResource("ingresses"), kind: "Ingress", namespaced: true,
		manifest: `
spec:
  ingressClassName: nobody
  defaultBackend: {service: {name: default-backend, port: {number: 80}}}
  rules:
  - host: foo.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: test-service, port: {number: 8080}}}}]}`,
		edit:   `{spec: {defaultBackend: {service: {name: default-backend, port: {number: 8080}}}}}`,
		status: `{status: {loadBalancer: {ingress: [{ip: 169.1.1.1}]}}}`,
		update: `{status: {loadBalancer: {ingress: [{ip: 169.1.1.1}, {hostname: lb.example.com}]}}}`,
	})
}

// NET-022
func ingressClasses(r *row) {
	r.operate(operations{
		gvr: networkingv1.SchemeGroupVersion.WithResource("ingressclasses"), kind: "IngressClass",
		manifest: `{spec: {controller: example.com/controller}}`,
		edit:     `{spec: {parameters: {apiGroup: example.com, kind: Setting, name: one, scope: Cluster}}}`,
	})
}

// NET-033: the status of a service of type LoadBalancer is read, patched and updated; watchers see each step.
func serviceStatus(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().Services(ns)
	label := r.unique()
	w := r.follow(client.Watch(r.ctx, labelled(label)))
	_, err := client.Create(r.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{rowLabel: label}},
		// Of a class that nobody serves: where addresses are given out, the status would be somebody else's, too.
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: new("conformance.example.com/nobody"), Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}, metav1.CreateOptions{})
	r.must(err, "creating")
	w.next(watch.Added, "one", named("one"))
	got, err := r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("services")).Namespace(ns).Get(r.ctx, "one", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("kind of what the subresource gives", got.GetKind(), "Service")

	patched, err := client.Patch(r.ctx, "one", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"patchedstatus":"true"}},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	mode := corev1.LoadBalancerIPModeVIP
	r.equal("status after the patch", patched.Status.LoadBalancer, corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.1", IPMode: &mode}}})
	w.next(watch.Modified, "one with an address", annotated("one", "patchedstatus", "true"))

	r.again("updating the status", func() error {
		s, err := client.Get(r.ctx, "one", metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{
			Type: "StatusUpdate", Status: metav1.ConditionTrue, Reason: "E2E", Message: "Set by a test", LastTransitionTime: metav1.Now(),
		})
		_, err = client.UpdateStatus(r.ctx, s, metav1.UpdateOptions{})
		return err
	})
	updated := w.next(watch.Modified, "one with a condition", func(o metav1.Object) bool { return len(o.(*corev1.Service).Status.Conditions) == 1 }).(*corev1.Service)
	r.equal("condition", updated.Status.Conditions[0].Type, "StatusUpdate")
	r.equal("address after the update", updated.Status.LoadBalancer.Ingress[0].IP, "203.0.113.1")

	_, err = client.Patch(r.ctx, "one", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"yes"}}}`), metav1.PatchOptions{})
	r.must(err, "patching the service")
	after := w.next(watch.Modified, "one with a label", func(o metav1.Object) bool { return o.GetLabels()["patched"] == "yes" }).(*corev1.Service)
	r.equal("conditions after a patch of the service", len(after.Status.Conditions), 1)
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting")
	w.next(watch.Deleted, "one", named("one"))
}

// NET-034: of several services those with the label are deleted as a collection.
func serviceCollection(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().Services(ns)
	label := r.unique()
	for i, value := range []string{label, label, "other"} {
		_, err := client.Create(r.ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("service-%d", i), Labels: map[string]string{rowLabel: value}},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}, metav1.CreateOptions{})
		r.must(err, "creating")
	}
	list, err := client.List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing")
	r.equal("services", len(list.Items), 3)
	// The typed client has no such method for services.
	some := r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("services")).Namespace(ns)
	r.must(some.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	r.eventually("the collection is gone", func() (bool, error) {
		list, err := client.List(r.ctx, labelled(label))
		return err == nil && len(list.Items) == 0, err
	})
	list, err = client.List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing what is left")
	r.equal("services left", len(list.Items), 1)
	r.equal("name of the one left", list.Items[0].Name, "service-2")
}

// NET-041: addresses of documentation's ranges (RFC 5737, RFC 3849), which no service has.
func ipAddresses(r *row) {
	at := rand.IntN(200) + 1
	r.operate(operations{
		gvr: networkingv1.SchemeGroupVersion.WithResource("ipaddresses"), kind: "IPAddress",
		manifest: `{spec: {parentRef: {group: example.com, resource: things, namespace: foo, name: bar}}}`,
		names: func(i int) string {
			return []string{fmt.Sprintf("192.0.2.%d", at), fmt.Sprintf("198.51.100.%d", at), fmt.Sprintf("2001:db8::%x", at)}[i]
		},
		edit: `{metadata: {labels: {edited: "yes"}}}`,
	})
}

// NET-042: the ranges that the server was started with are in the ServiceCIDR kubernetes; and ranges can be made, though for this
// only as if: a new one would give addresses to other rows' services.
func serviceCIDRs(r *row) {
	gvr := networkingv1.SchemeGroupVersion.WithResource("servicecidrs")
	r.discover(operations{gvr: gvr, kind: "ServiceCIDR", status: "yes"})
	client := r.kube.NetworkingV1().ServiceCIDRs()
	got, err := client.Get(r.ctx, "kubernetes", metav1.GetOptions{})
	r.must(err, "getting the first")
	if len(got.Spec.CIDRs) == 0 {
		r.Error("it has no range")
	}
	status, err := r.dyn.Resource(gvr).Get(r.ctx, "kubernetes", metav1.GetOptions{}, "status")
	r.must(err, "getting its status")
	r.equal("kind of what the subresource gives", status.GroupVersionKind(), networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"))
	r.equal("uid of what the subresource gives", status.GetUID(), got.UID)
	list, err := client.List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing")
	if !slices.ContainsFunc(list.Items, func(c networkingv1.ServiceCIDR) bool { return c.UID == got.UID }) {
		r.Errorf("it is not among the %d listed", len(list.Items))
	}
	w := r.follow(client.Watch(r.ctx, metav1.ListOptions{FieldSelector: "metadata.name=kubernetes"}))
	w.next(watch.Added, "kubernetes", named("kubernetes"))
	patched, err := client.Patch(r.ctx, "kubernetes", types.MergePatchType, []byte(`{"metadata":{"annotations":{"patched":"true"}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("annotation patched", patched.Annotations["patched"], "true")
	w.next(watch.Modified, "kubernetes", annotated("kubernetes", "patched", "true"))
	dry := []string{metav1.DryRunAll}
	made, err := client.Create(r.ctx, &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: r.unique()}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"203.0.113.0/24"}},
	}, metav1.CreateOptions{DryRun: dry})
	r.must(err, "creating as if")
	r.equal("ranges of it", made.Spec.CIDRs, []string{"203.0.113.0/24"})
	_, err = client.Patch(r.ctx, "kubernetes", types.MergePatchType, []byte(`{"metadata":{"annotations":{"patched":null}}}`), metav1.PatchOptions{})
	r.must(err, "patching back")
}
