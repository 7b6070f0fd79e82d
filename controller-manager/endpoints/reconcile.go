//lint:file-ignore SA1019 Endpoints are deprecated for users; this room serves those who still read them.

package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/util"

	"pilothouse.dev/pkg/pod"
)

const (
	managedByLabel = "endpoints.kubernetes.io/managed-by"
	managedBy      = "endpoint-controller"
	// capacity is how many addresses one object holds; beyond it, slices must be read.
	capacity = 1000
)

// subsets groups the addresses of a Service's pods by the ports they offer, in an order that depends on nothing else.
func subsets(svc *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	byPorts := map[string]*corev1.EndpointSubset{}
	for _, p := range pods {
		if !util.ShouldPodBeInEndpoints(p, svc.Spec.PublishNotReadyAddresses) {
			continue
		}
		addr, ok := address(svc, p)
		if !ok {
			continue
		}
		ports, ok := portsOf(svc, p)
		if !ok {
			continue
		}
		k := portsKey(ports)
		s := byPorts[k]
		if s == nil {
			s = &corev1.EndpointSubset{Ports: ports}
			byPorts[k] = s
		}
		if svc.Spec.PublishNotReadyAddresses || pod.Ready(p) {
			s.Addresses = append(s.Addresses, addr)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, addr)
		}
	}
	var all []corev1.EndpointSubset
	for _, k := range slices.Sorted(maps.Keys(byPorts)) {
		s := byPorts[k]
		for _, list := range [][]corev1.EndpointAddress{s.Addresses, s.NotReadyAddresses} {
			slices.SortFunc(list, func(a, b corev1.EndpointAddress) int {
				return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.TargetRef.UID, b.TargetRef.UID))
			})
		}
		all = append(all, *s)
	}
	return all
}

// address is the pod's in the Service's first family.
func address(svc *corev1.Service, p *corev1.Pod) (corev1.EndpointAddress, bool) {
	want6 := len(svc.Spec.IPFamilies) > 0 && svc.Spec.IPFamilies[0] == corev1.IPv6Protocol
	ips := p.Status.PodIPs
	if len(ips) == 0 {
		ips = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, ip := range ips {
		a, err := netip.ParseAddr(ip.IP)
		if err != nil || len(svc.Spec.IPFamilies) > 0 && a.Is6() != want6 {
			continue
		}
		node := p.Spec.NodeName
		e := corev1.EndpointAddress{
			IP: ip.IP, NodeName: &node,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		}
		if util.ShouldSetHostname(p, svc) {
			e.Hostname = p.Spec.Hostname
		}
		return e, true
	}
	return corev1.EndpointAddress{}, false
}

// portsOf are the Service's ports as the pod has them; false when it has ports and the pod none of them.
func portsOf(svc *corev1.Service, p *corev1.Pod) ([]corev1.EndpointPort, bool) {
	var ports []corev1.EndpointPort
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		n, err := endpointslice.FindPort(p, sp)
		if err != nil {
			continue // this pod has no port of that name
		}
		ports = append(ports, corev1.EndpointPort{Name: sp.Name, Port: int32(n), Protocol: sp.Protocol, AppProtocol: sp.AppProtocol})
	}
	slices.SortFunc(ports, func(a, b corev1.EndpointPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(string(a.Protocol), string(b.Protocol)), strings.Compare(a.Name, b.Name))
	})
	return ports, len(ports) > 0 || len(svc.Spec.Ports) == 0
}

// portsKey tells sets of ports apart; a port's protocol of the application follows from its name.
func portsKey(ports []corev1.EndpointPort) string {
	var b strings.Builder
	for _, p := range ports {
		fmt.Fprintf(&b, "%05d/%s/%s ", p.Port, p.Protocol, p.Name)
	}
	return b.String()
}

// next is the object as it should be, and whether it must be written.
func next(svc *corev1.Service, have *corev1.Endpoints, want []corev1.EndpointSubset, since time.Time) (*corev1.Endpoints, bool) {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	if have != nil {
		e = have.DeepCopy()
	}
	e.Labels = maps.Clone(svc.Labels)
	if e.Labels == nil {
		e.Labels = map[string]string{}
	}
	e.Labels[managedByLabel] = managedBy
	delete(e.Labels, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		e.Labels[corev1.IsHeadlessService] = ""
	}
	cut := truncate(want)
	e.Subsets = slices.DeleteFunc(want, func(s corev1.EndpointSubset) bool { return len(s.Addresses)+len(s.NotReadyAddresses) == 0 })
	if cut {
		annotate(e, corev1.EndpointsOverCapacity, "truncated")
	} else {
		delete(e.Annotations, corev1.EndpointsOverCapacity)
	}
	changed := have == nil || !equality.Semantic.DeepEqual(have, e)
	if changed && !since.IsZero() {
		annotate(e, corev1.EndpointsLastChangeTriggerTime, since.UTC().Format(time.RFC3339Nano))
	} else if changed {
		delete(e.Annotations, corev1.EndpointsLastChangeTriggerTime)
	}
	return e, changed
}

func annotate(e *corev1.Endpoints, k, v string) {
	if e.Annotations == nil {
		e.Annotations = map[string]string{}
	}
	e.Annotations[k] = v
}

// truncate keeps as many addresses as the object may hold, ready ones before others, and says whether any were dropped.
func truncate(s []corev1.EndpointSubset) (cut bool) {
	left := capacity
	take := func(list []corev1.EndpointAddress) []corev1.EndpointAddress {
		if len(list) > left {
			list, cut = list[:left], true
		}
		left -= len(list)
		return list
	}
	for i := range s {
		s[i].Addresses = take(s[i].Addresses)
	}
	for i := range s {
		s[i].NotReadyAddresses = take(s[i].NotReadyAddresses)
	}
	return cut
}
