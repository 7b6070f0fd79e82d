package servicecidr

import (
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// finalizer keeps a ServiceCIDR while addresses depend on it.
const finalizer = "networking.k8s.io/service-cidr-finalizer"

// grace is how long a ServiceCIDR stays after its deletion was asked for: API servers then no longer give addresses of it, and
// those that they were just giving are seen.
const grace = 10 * time.Second

// ranges are the CIDRs of an object.
func ranges(c *networkingv1.ServiceCIDR) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil { // what is none was refused
			all = append(all, p.Masked())
		}
	}
	return all
}

func contains(all []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func overlap(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool { return slices.ContainsFunc(b, p.Overlaps) })
}

// needed says whether an address is of c and of no other range that stays.
func needed(c *networkingv1.ServiceCIDR, others []*networkingv1.ServiceCIDR, ips []netip.Addr) bool {
	own := ranges(c)
	var stay []netip.Prefix
	for _, o := range others {
		if o.Name != c.Name && o.DeletionTimestamp == nil {
			stay = append(stay, ranges(o)...)
		}
	}
	return slices.ContainsFunc(ips, func(ip netip.Addr) bool { return contains(own, ip) && !contains(stay, ip) })
}

// next is a ServiceCIDR as it should be, one step at a time, metadata before status; and after how long to look again. needed says
// whether addresses depend on it alone, which is asked only while it goes.
func next(c *networkingv1.ServiceCIDR, needed func() bool, now time.Time) (*networkingv1.ServiceCIDR, time.Duration) {
	want := c.DeepCopy()
	kept := slices.Contains(c.Finalizers, finalizer)
	if c.DeletionTimestamp == nil {
		if !kept {
			want.Finalizers = append(want.Finalizers, finalizer)
			return want, 0
		}
		say(want, metav1.ConditionTrue, "Ready", "Kubernetes Service CIDR is ready", now)
		return want, 0
	}
	if !kept {
		return want, 0
	}
	if needed() {
		say(want, metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating,
			"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR", now)
		return want, 0
	}
	if left := grace - now.Sub(c.DeletionTimestamp.Time); left > 0 {
		say(want, metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating, "The ServiceCIDR is being deleted", now)
		return want, left
	}
	want.Finalizers = slices.DeleteFunc(want.Finalizers, func(f string) bool { return f == finalizer })
	return want, 0
}

// say sets the condition Ready; one that already is as true or false and gives no wrong reason stays as it is: the API server says
// of its own range in other words that it is ready.
func say(c *networkingv1.ServiceCIDR, status metav1.ConditionStatus, reason, message string, now time.Time) {
	have := meta.FindStatusCondition(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
	if have != nil && have.Status == status && (status == metav1.ConditionTrue || have.Message == message) {
		return
	}
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now),
	})
}
