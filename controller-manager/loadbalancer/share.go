package loadbalancer

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// shareAnnotation lets services have one address together, where their ports differ: all that say the same text. It is the one that
// users of MetalLB know (https://metallb.io/usage/#ip-address-sharing).
const shareAnnotation = "metallb.io/allow-shared-ip"

// share is what decides whether two services can have one address.
type share struct {
	key       string // empty: with nobody
	ports     []string
	local     bool   // only nodes with a pod of it answer
	namespace string // of its pods
	selector  map[string]string
}

func shareOf(s *corev1.Service) share {
	out := share{key: s.Annotations[shareAnnotation], local: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal}
	if out.key == "" {
		return share{}
	}
	out.namespace, out.selector = s.Namespace, maps.Clone(s.Spec.Selector)
	for _, p := range s.Spec.Ports {
		out.ports = append(out.ports, fmt.Sprintf("%s/%d", p.Protocol, p.Port))
	}
	slices.Sort(out.ports)
	return out
}

// with says whether the two can: both want to, no port is both's, and where an address must be answered by nodes with a pod of the
// one, those have one of the other.
func (s share) with(o share) bool {
	if s.key == "" || s.key != o.key || slices.ContainsFunc(s.ports, func(p string) bool { return slices.Contains(o.ports, p) }) {
		return false
	}
	return !s.local && !o.local || s.local == o.local && s.namespace == o.namespace && len(s.selector) > 0 && maps.Equal(s.selector, o.selector)
}

func (s share) equal(o share) bool {
	return s.key == o.key && s.local == o.local && slices.Equal(s.ports, o.ports) && maps.Equal(s.selector, o.selector)
}
