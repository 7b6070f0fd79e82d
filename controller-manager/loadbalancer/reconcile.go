package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	// finalizer keeps a service until its address is given back; it is the one that Kubernetes documents for balancers.
	finalizer = "service.kubernetes.io/load-balancer-cleanup"
	// class is what a service may name to be ours, beside naming none.
	class = "pilothouse.dev/pool"
	// condition of a service that got no address, or not all; there is none while all is well.
	condition = "pilothouse.dev/LoadBalancerAddress"
)

// ours says whether a service is to have addresses of the pool.
func ours(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && (s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == class)
}

// decision is what a service should have.
type decision struct {
	addresses []netip.Addr
	moved     []string // sentences about addresses that it loses against its will
	reason    string   // why it does not have all; empty: it has
	message   string   // the same in words, with the remedy
}

// decide chooses a service's addresses, one a family: what it asks for, else what it has, else the first free one. taken says
// whether another service has a better right to an address.
func decide(s *corev1.Service, pool Pool, taken func(netip.Addr) bool) decision {
	var d decision
	have := held(s)
	asked, err := netip.ParseAddr(s.Spec.LoadBalancerIP)
	if s.Spec.LoadBalancerIP != "" && err != nil {
		d.fail("InvalidAddress", "spec.loadBalancerIP %q is no address: name one of %s, or none", s.Spec.LoadBalancerIP, pool)
		return d
	}
	asked = asked.Unmap()
	if asked.IsValid() && len(s.Spec.IPFamilies) > 0 && !slices.Contains(s.Spec.IPFamilies, familyOf(asked)) {
		d.fail("InvalidAddress", "spec.loadBalancerIP %s is of none of the families %v of the service", asked, s.Spec.IPFamilies)
		return d
	}
	for i, f := range families(s) {
		at := slices.IndexFunc(have, func(a netip.Addr) bool { return familyOf(a) == f })
		a, ok := d.choose(s, pool, taken, f, asked, have, at, i > 0)
		if ok {
			d.addresses = append(d.addresses, a)
		}
		if at >= 0 && (!ok || a != have[at]) {
			d.lost(have[at], a, pool, taken, asked)
		}
	}
	return d
}

// choose picks the address of one family; at is the place of the one it has, which it keeps when what it asks for cannot be had.
func (d *decision) choose(s *corev1.Service, pool Pool, taken func(netip.Addr) bool, f corev1.IPFamily, asked netip.Addr, have []netip.Addr, at int, second bool) (netip.Addr, bool) {
	keeps := at >= 0 && pool.gives(have[at]) && !taken(have[at])
	switch {
	case asked.IsValid() && familyOf(asked) == f && pool.gives(asked) && !taken(asked):
		return asked, true
	case asked.IsValid() && familyOf(asked) == f && !pool.gives(asked):
		d.fail("AddressNotInPool", "spec.loadBalancerIP %s is not in the pool %s: ask for one of it, or for none, or give the controller manager a --load-balancer-cidr that has it", asked, pool)
	case asked.IsValid() && familyOf(asked) == f:
		d.fail("AddressTaken", "spec.loadBalancerIP %s is another service's: ask for another address, delete that service, or give both the annotation %s with the same value if their ports differ", asked, shareAnnotation)
	case !keeps && !pool.has(f):
		if !second || ptr.Deref(s.Spec.IPFamilyPolicy, "") != corev1.IPFamilyPolicyPreferDualStack {
			d.fail("NoSuchFamily", "the pool %s has no %s range: add one to the controller manager's --load-balancer-cidr", pool, f)
		}
	}
	if keeps {
		return have[at], true
	}
	if asked.IsValid() && familyOf(asked) == f || !pool.has(f) {
		return netip.Addr{}, false
	}
	a, ok := pool.free(f, taken)
	if !ok {
		d.fail("PoolExhausted", "no %s address of the pool %s is free: delete a service of type LoadBalancer, or add a range to the controller manager's --load-balancer-cidr", f, pool)
	}
	return a, ok
}

func (d *decision) fail(reason, format string, args ...any) {
	if d.reason == "" {
		d.reason, d.message = reason, fmt.Sprintf(format, args...)
	} else {
		d.message += "; " + fmt.Sprintf(format, args...)
	}
}

// lost tells why a service no longer has an address that it had, where nobody asked for that.
func (d *decision) lost(was, now netip.Addr, pool Pool, taken func(netip.Addr) bool, asked netip.Addr) {
	why := ""
	switch {
	case !pool.gives(was):
		why = fmt.Sprintf("%s is not in the pool %s", was, pool)
	case taken(was):
		why = fmt.Sprintf("%s is another service's", was)
	default:
		why = fmt.Sprintf("%s was asked for instead of %s", asked, was)
	}
	if now.IsValid() {
		why += fmt.Sprintf(": moved to %s", now)
	} else {
		why += ": given up"
	}
	d.moved = append(d.moved, why)
}

func families(s *corev1.Service) []corev1.IPFamily {
	if len(s.Spec.IPFamilies) > 0 {
		return s.Spec.IPFamilies
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// next is the service as it should be: finalizer, addresses and condition.
func next(s *corev1.Service, d decision, now metav1.Time) *corev1.Service {
	s = s.DeepCopy()
	if !slices.Contains(s.Finalizers, finalizer) {
		s.Finalizers = append(s.Finalizers, finalizer)
	}
	if !slices.Equal(held(s), d.addresses) || len(s.Status.LoadBalancer.Ingress) != len(d.addresses) {
		s.Status.LoadBalancer.Ingress = nil
		for _, a := range d.addresses {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress,
				corev1.LoadBalancerIngress{IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
		}
	}
	if d.reason == "" {
		dropCondition(s)
	} else {
		setCondition(s, d, now)
	}
	return s
}

func setCondition(s *corev1.Service, d decision, now metav1.Time) {
	c := metav1.Condition{Type: condition, Status: metav1.ConditionFalse, Reason: d.reason, Message: d.message,
		ObservedGeneration: s.Generation, LastTransitionTime: now}
	i := slices.IndexFunc(s.Status.Conditions, func(c metav1.Condition) bool { return c.Type == condition })
	if i < 0 {
		s.Status.Conditions = append(s.Status.Conditions, c)
		return
	}
	if have := &s.Status.Conditions[i]; have.Reason != c.Reason || have.Message != c.Message {
		c.LastTransitionTime = have.LastTransitionTime
		*have = c
	}
}

func dropCondition(s *corev1.Service) {
	s.Status.Conditions = slices.DeleteFunc(s.Status.Conditions, func(c metav1.Condition) bool { return c.Type == condition })
	if len(s.Status.Conditions) == 0 {
		s.Status.Conditions = nil
	}
}

// released is a service that has nothing of ours any more.
func released(s *corev1.Service) *corev1.Service {
	s = s.DeepCopy()
	s.Finalizers = slices.DeleteFunc(s.Finalizers, func(f string) bool { return f == finalizer })
	s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	dropCondition(s)
	return s
}
