//lint:file-ignore SA1019 Endpoints are deprecated for users; this room serves those who still write them.

package endpointslicemirror

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// managedBy is the value of the label by which slices are known to be ours.
const managedBy = "endpointslicemirroring-controller.k8s.io"

// mirrored says whether Endpoints may be mirrored at all: they do not say no, and are no leader's lock.
func mirrored(e *corev1.Endpoints) bool {
	_, lock := e.Annotations[resourcelock.LeaderElectionRecordAnnotationKey]
	return !lock && e.Labels[discoveryv1.LabelSkipMirror] != "true"
}

// skipped counts the addresses of Endpoints that no slice shows.
type skipped struct {
	invalid int // no addresses at all
	many    int // more than a subset may have
}

// group is what one slice is of: a family, and ports.
type group struct {
	family discoveryv1.AddressType
	ports  string
}

func groupOf(s *discoveryv1.EndpointSlice) group {
	var texts []string
	for _, p := range s.Ports {
		var name, protocol, app, number string
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = string(*p.Protocol)
		}
		if p.AppProtocol != nil {
			app = *p.AppProtocol
		}
		if p.Port != nil {
			number = fmt.Sprint(*p.Port)
		}
		texts = append(texts, strings.Join([]string{number, protocol, name, app}, "/"))
	}
	slices.Sort(texts)
	return group{s.AddressType, strings.Join(texts, " ")}
}

// desired are the slices that show Endpoints, without names: one for the addresses of a family that have the same ports, of at
// most so many of one subset. Their order, and that of their endpoints, is that of the Endpoints.
func desired(e *corev1.Endpoints, most int) ([]*discoveryv1.EndpointSlice, skipped) {
	var all []*discoveryv1.EndpointSlice
	var skip skipped
	byGroup := map[group]*discoveryv1.EndpointSlice{}
	known := map[group]map[netip.Addr]bool{}
	count := map[string]int{} // by ports: subsets that have the same are one
	for _, subset := range e.Subsets {
		ports := portsOf(subset)
		for i, a := range slices.Concat(subset.Addresses, subset.NotReadyAddresses) {
			ip, err := netip.ParseAddr(a.IP)
			if err != nil {
				skip.invalid++
				continue
			}
			s := empty(e, family(ip), ports)
			g := groupOf(s)
			if known[g][ip] {
				continue
			}
			if count[g.ports] >= most {
				skip.many++
				continue
			}
			count[g.ports]++
			if byGroup[g] == nil {
				byGroup[g], known[g] = s, map[netip.Addr]bool{}
				all = append(all, s)
			}
			known[g][ip] = true
			byGroup[g].Endpoints = append(byGroup[g].Endpoints, endpoint(a, i < len(subset.Addresses)))
		}
	}
	return all, skip
}

func family(ip netip.Addr) discoveryv1.AddressType {
	if ip.Unmap().Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

func portsOf(s corev1.EndpointSubset) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for _, p := range s.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		ports = append(ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &protocol, AppProtocol: p.AppProtocol})
	}
	return ports
}

func endpoint(a corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

// empty is a slice of Endpoints with all but endpoints.
func empty(e *corev1.Endpoints, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	labels := maps.Clone(e.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = e.Name, managedBy
	annotations := maps.Clone(e.Annotations)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace, GenerateName: prefix(e.Name), Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: family, Ports: ports,
	}
}

// prefix is what a slice's name begins with: a dash behind the name where there is room.
func prefix(name string) string {
	if p := name + "-"; len(apivalidation.NameIsDNSSubdomain(p, true)) == 0 {
		return p
	}
	return name
}

// plan is what to write so that slices that are there become those that should be.
type plan struct{ create, update, remove []*discoveryv1.EndpointSlice }

// compare makes the plan. A slice of the same ports is kept; one that is not wanted becomes one that is, where the family allows.
func compare(have, want []*discoveryv1.EndpointSlice) plan {
	have = slices.SortedFunc(slices.Values(have), func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	free := map[group][]*discoveryv1.EndpointSlice{}
	for _, s := range have {
		free[groupOf(s)] = append(free[groupOf(s)], s)
	}
	var p plan
	var missing []*discoveryv1.EndpointSlice
	for _, w := range want {
		g := groupOf(w)
		if len(free[g]) == 0 {
			missing = append(missing, w)
			continue
		}
		if s := free[g][0]; !shows(s, w) {
			p.update = append(p.update, become(s, w))
		}
		free[g] = free[g][1:]
	}
	left := map[string]bool{}
	for _, list := range free {
		for _, s := range list {
			left[s.Name] = true
		}
	}
	for _, w := range missing {
		i := slices.IndexFunc(have, func(s *discoveryv1.EndpointSlice) bool { return left[s.Name] && s.AddressType == w.AddressType })
		if i < 0 {
			p.create = append(p.create, w)
			continue
		}
		delete(left, have[i].Name)
		p.update = append(p.update, become(have[i], w))
	}
	for _, s := range have {
		if left[s.Name] {
			p.remove = append(p.remove, s)
		}
	}
	return p
}

// shows says whether a slice is already as wanted.
func shows(have, want *discoveryv1.EndpointSlice) bool {
	return equality.Semantic.DeepEqual(have.Labels, want.Labels) && equality.Semantic.DeepEqual(have.Annotations, want.Annotations) &&
		equality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences) && equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints)
}

// become is a slice that is there, with the contents of another.
func become(have, want *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s := have.DeepCopy()
	s.Labels, s.Annotations, s.OwnerReferences = want.Labels, want.Annotations, want.OwnerReferences
	s.Ports, s.Endpoints = want.Ports, want.Endpoints
	return s
}

// changes counts the endpoints that a plan adds, changes and takes away.
func (p plan) changes(have []*discoveryv1.EndpointSlice) (added, updated, removed int) {
	was := map[string]*discoveryv1.EndpointSlice{}
	for _, s := range have {
		was[s.Name] = s
	}
	for _, s := range p.create {
		added += len(s.Endpoints)
	}
	for _, s := range p.remove {
		removed += len(s.Endpoints)
	}
	for _, s := range p.update {
		old := map[string]discoveryv1.Endpoint{}
		for _, e := range was[s.Name].Endpoints {
			old[e.Addresses[0]] = e
		}
		for _, e := range s.Endpoints {
			before, there := old[e.Addresses[0]]
			switch {
			case !there:
				added++
			case !equality.Semantic.DeepEqual(before, e):
				updated++
			}
			delete(old, e.Addresses[0])
		}
		removed += len(old)
	}
	return added, updated, removed
}
