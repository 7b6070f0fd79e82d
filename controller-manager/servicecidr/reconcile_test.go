package servicecidr

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var began = time.Unix(1_700_000_000, 0)

func cidr(name, ranges string, change ...func(*networkingv1.ServiceCIDR)) *networkingv1.ServiceCIDR {
	c := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: strings.Fields(ranges)}}
	for _, f := range change {
		f(c)
	}
	return c
}

func kept(c *networkingv1.ServiceCIDR)  { c.Finalizers = append(c.Finalizers, finalizer) }
func other(c *networkingv1.ServiceCIDR) { c.Finalizers = append(c.Finalizers, "example.com/other") }
func going(c *networkingv1.ServiceCIDR) { t := metav1.NewTime(began); c.DeletionTimestamp = &t }
func ready(c *networkingv1.ServiceCIDR) {
	say(c, metav1.ConditionTrue, "KubernetesDefault", "Kubernetes default Service CIDR is ready", began)
}

func TestNeeded(t *testing.T) {
	for name, tc := range map[string]struct {
		c      *networkingv1.ServiceCIDR
		others []*networkingv1.ServiceCIDR
		ips    string
		want   bool
	}{
		"nobody":                     {cidr("a", "10.0.0.0/24"), nil, "", false},
		"an address of it":           {cidr("a", "10.0.0.0/24"), nil, "10.0.0.9", true},
		"of its second family":       {cidr("a", "10.0.0.0/24 fd00::/112"), nil, "fd00::7", true},
		"addresses of others":        {cidr("a", "10.0.0.0/24"), nil, "10.0.1.9 fd00::1", false},
		"another holds it too":       {cidr("a", "10.0.0.0/24"), []*networkingv1.ServiceCIDR{cidr("b", "10.0.0.0/16")}, "10.0.0.9", false},
		"another holds some":         {cidr("a", "10.0.0.0/24"), []*networkingv1.ServiceCIDR{cidr("b", "10.0.0.0/28")}, "10.0.0.9 10.0.0.99", true},
		"another that goes":          {cidr("a", "10.0.0.0/24"), []*networkingv1.ServiceCIDR{cidr("b", "10.0.0.0/16", going)}, "10.0.0.9", true},
		"itself is not another":      {cidr("a", "10.0.0.0/24"), []*networkingv1.ServiceCIDR{cidr("a", "10.0.0.0/24")}, "10.0.0.9", true},
		"one of the network's range": {cidr("a", "10.0.0.0/24"), nil, "10.0.0.0", true},
	} {
		t.Run(name, func(t *testing.T) {
			var ips []netip.Addr
			for _, f := range strings.Fields(tc.ips) {
				ips = append(ips, netip.MustParseAddr(f))
			}
			if got := needed(tc.c, tc.others, ips); got != tc.want {
				t.Errorf("needed: %v", got)
			}
		})
	}
}

func TestNext(t *testing.T) {
	for name, tc := range map[string]struct {
		c         *networkingv1.ServiceCIDR
		needed    bool
		after     time.Duration
		kept      bool
		condition string // status, reason
		again     time.Duration
	}{
		"new":                          {cidr("a", "10.0.0.0/24"), true, 0, true, "", 0},
		"kept":                         {cidr("a", "10.0.0.0/24", kept), true, 0, true, "True Ready", 0},
		"said to be ready by another":  {cidr("a", "10.0.0.0/24", kept, ready), true, 0, true, "True KubernetesDefault", 0},
		"goes, and is needed":          {cidr("a", "10.0.0.0/24", kept, ready, going), true, time.Hour, true, "False Terminating", 0},
		"goes, and is not":             {cidr("a", "10.0.0.0/24", kept, ready, going), false, 4 * time.Second, true, "False Terminating", 6 * time.Second},
		"goes, and has gone for long":  {cidr("a", "10.0.0.0/24", kept, ready, going, other), false, grace, false, "True KubernetesDefault", 0},
		"goes, and was let go already": {cidr("a", "10.0.0.0/24", going, other), false, time.Hour, false, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, again := next(tc.c, func() bool { return tc.needed }, began.Add(tc.after))
			text := ""
			if c := meta.FindStatusCondition(got.Status.Conditions, "Ready"); c != nil {
				text = string(c.Status) + " " + c.Reason
			}
			if slices.Contains(got.Finalizers, finalizer) != tc.kept || text != tc.condition || again != tc.again {
				t.Errorf("finalizers %v, condition %q, again %v", got.Finalizers, text, again)
			}
			if same, _ := next(got, func() bool { return tc.needed }, began.Add(tc.after)); tc.condition != "" && !equality.Semantic.DeepEqual(same, got) {
				t.Errorf("changes again: %+v", same)
			}
		})
	}
}
