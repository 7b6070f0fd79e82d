package plugins

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/admission"
)

// shortFamilies tells a service's families in short: policy, families and addresses, as «Single 4 10.96.0.1».
func shortFamilies(s *corev1.Service) string {
	policy := "-"
	if s.Spec.IPFamilyPolicy != nil {
		policy = strings.TrimSuffix(string(*s.Spec.IPFamilyPolicy), "Stack")
	}
	text := ""
	for _, f := range s.Spec.IPFamilies {
		text += strings.TrimPrefix(string(f), "IPv")
	}
	return strings.TrimSpace(policy + " " + text + " " + strings.Join(s.Spec.ClusterIPs, ","))
}

// wishing is a service that wants, in the same words, what is named.
func wishing(text string, selector bool) *corev1.Service {
	return service(corev1.ServiceTypeClusterIP, func(s *corev1.Service) {
		f := strings.Fields(text)
		if f[0] != "-" {
			policy := corev1.IPFamilyPolicy(f[0] + "Stack")
			s.Spec.IPFamilyPolicy = &policy
		}
		if f[1] != "-" {
			for _, c := range f[1] {
				s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPFamily("IPv"+string(c)))
			}
		}
		if f[2] != "-" {
			s.Spec.ClusterIPs = strings.Split(f[2], ",")
			s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
		}
		if !selector {
			s.Spec.Selector = nil
		}
	})
}

// ofFamilies is a story in a cluster of these families, "46" for both with IPv4 first.
func ofFamilies(t *testing.T, families string) *story {
	s := newStory(t)
	s.p.ips = nil
	for _, f := range families {
		if f == '4' {
			s.p.ips = append(s.p.ips, s.four)
		} else {
			s.p.ips = append(s.p.ips, newShelf(t, "fd00::/112"))
		}
	}
	return s
}

const (
	notDual  = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
	manyFams = "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
	manyIPs  = "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"
	no4      = "spec.ipFamilies[0]: Invalid value: \"IPv4\": not configured on this cluster"
	no6      = "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"
	no6too   = "spec.ipFamilies[1]: Invalid value: \"IPv6\": not configured on this cluster"
	noIP6    = "spec.clusterIPs[0]: Invalid value: [\"fd00::9\"]: IPv6 is not configured on this cluster"
	noIP4    = "spec.clusterIPs[0]: Invalid value: [\"10.96.0.9\"]: IPv4 is not configured on this cluster"
)

// TestFamiliesOfNewServices is what a service gets in clusters of each kind, by what it names: policy, families, addresses.
func TestFamiliesOfNewServices(t *testing.T) {
	type row struct{ asks, in4, in6, in46, in64 string }
	for kind, rows := range map[string][]row{
		"with a selector": {
			{"- - -", "Single 4 10.96.0.1", "Single 6 fd00::1", "Single 4 10.96.0.1", "Single 6 fd00::1"},
			{"- 4 -", "Single 4 10.96.0.1", no4, "Single 4 10.96.0.1", "Single 4 10.96.0.1"},
			{"- 6 -", no6, "Single 6 fd00::1", "Single 6 fd00::1", "Single 6 fd00::1"},
			{"- 46 -", manyFams, manyFams, manyFams, manyFams},
			{"- - 10.96.0.9", "Single 4 10.96.0.9", noIP4, "Single 4 10.96.0.9", "Single 4 10.96.0.9"},
			{"- - fd00::9", noIP6, "Single 6 fd00::9", "Single 6 fd00::9", "Single 6 fd00::9"},
			{"- - 10.96.0.9,fd00::9", manyIPs, manyIPs, manyIPs, manyIPs},
			{"Single - -", "Single 4 10.96.0.1", "Single 6 fd00::1", "Single 4 10.96.0.1", "Single 6 fd00::1"},
			{"Single 6 -", no6, "Single 6 fd00::1", "Single 6 fd00::1", "Single 6 fd00::1"},
			{"Single 64 -", manyFams, manyFams, manyFams, manyFams},
			{"Single - fd00::9,10.96.0.9", manyIPs, manyIPs, manyIPs, manyIPs},
			{"PreferDual - -", "PreferDual 4 10.96.0.1", "PreferDual 6 fd00::1", "PreferDual 46 10.96.0.1,fd00::1", "PreferDual 64 fd00::1,10.96.0.1"},
			{"PreferDual 4 -", "PreferDual 4 10.96.0.1", no4, "PreferDual 46 10.96.0.1,fd00::1", "PreferDual 46 10.96.0.1,fd00::1"},
			{"PreferDual 6 -", no6, "PreferDual 6 fd00::1", "PreferDual 64 fd00::1,10.96.0.1", "PreferDual 64 fd00::1,10.96.0.1"},
			{"PreferDual 46 -", no6too, no4, "PreferDual 46 10.96.0.1,fd00::1", "PreferDual 46 10.96.0.1,fd00::1"},
			{"PreferDual 64 -", no6, "spec.ipFamilies[1]: Invalid value: \"IPv4\": not configured on this cluster", "PreferDual 64 fd00::1,10.96.0.1", "PreferDual 64 fd00::1,10.96.0.1"},
			{"PreferDual - 10.96.0.9", "PreferDual 4 10.96.0.9", noIP4, "PreferDual 46 10.96.0.9,fd00::1", "PreferDual 46 10.96.0.9,fd00::1"},
			{"PreferDual - fd00::9,10.96.0.9", "IPv6 is not configured on this cluster", "IPv4 is not configured on this cluster", "PreferDual 64 fd00::9,10.96.0.9", "PreferDual 64 fd00::9,10.96.0.9"},
			{"RequireDual - -", notDual, notDual, "RequireDual 46 10.96.0.1,fd00::1", "RequireDual 64 fd00::1,10.96.0.1"},
			{"RequireDual 6 -", notDual, notDual, "RequireDual 64 fd00::1,10.96.0.1", "RequireDual 64 fd00::1,10.96.0.1"},
			{"RequireDual 46 10.96.0.9", notDual, notDual, "RequireDual 46 10.96.0.9,fd00::1", "RequireDual 46 10.96.0.9,fd00::1"},
			{"RequireDual - 10.96.0.9,fd00::9", "IPv6 is not configured on this cluster", "IPv4 is not configured on this cluster", "RequireDual 46 10.96.0.9,fd00::9", "RequireDual 46 10.96.0.9,fd00::9"},
			{"- - None", "Single 4 None", "Single 6 None", "Single 4 None", "Single 6 None"},
			{"PreferDual - None", "PreferDual 4 None", "PreferDual 6 None", "PreferDual 46 None", "PreferDual 64 None"},
			{"RequireDual 6 None", notDual, notDual, "RequireDual 64 None", "RequireDual 64 None"},
		},
		"without a selector": {
			{"- - -", "Single 4 10.96.0.1", "Single 6 fd00::1", "Single 4 10.96.0.1", "Single 6 fd00::1"},
			{"- - None", "RequireDual 46 None", "RequireDual 64 None", "RequireDual 46 None", "RequireDual 64 None"},
			{"- 6 None", "RequireDual 64 None", "RequireDual 64 None", "RequireDual 64 None", "RequireDual 64 None"},
			{"Single - None", "Single 4 None", "Single 6 None", "Single 4 None", "Single 6 None"},
			{"Single 6 None", "Single 6 None", "Single 6 None", "Single 6 None", "Single 6 None"},
			{"Single 64 None", manyFams, manyFams, manyFams, manyFams},
			{"PreferDual - None", "PreferDual 46 None", "PreferDual 64 None", "PreferDual 46 None", "PreferDual 64 None"},
			{"RequireDual 64 None", "RequireDual 64 None", "RequireDual 64 None", "RequireDual 64 None", "RequireDual 64 None"},
		},
	} {
		for _, r := range rows {
			for in, want := range map[string]string{"4": r.in4, "6": r.in6, "46": r.in46, "64": r.in64} {
				t.Run(fmt.Sprintf("%s: %s in %s", kind, r.asks, in), func(t *testing.T) {
					s, made := ofFamilies(t, in), wishing(r.asks, kind == "with a selector")
					err := s.write(admission.Create, made, nil, true)
					if err != nil {
						refused(t, err, metav1.StatusReasonInvalid, want)
						if n := len(s.four.taken); n > 0 {
							t.Errorf("%d addresses were not given back", n)
						}
						return
					}
					if got := shortFamilies(made); got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				})
			}
		}
	}
}

// TestFamiliesOfChangedServices is what an update makes of a service's families in a cluster of both.
func TestFamiliesOfChangedServices(t *testing.T) {
	const second = "must be 'SingleStack' to release the secondary "
	for _, c := range []struct{ old, asks, want string }{
		{"Single 4 10.96.0.1", "- - -", "Single 4 10.96.0.1"},
		{"Single 4 10.96.0.1", "PreferDual - -", "PreferDual 46 10.96.0.1,fd00::1"},
		{"Single 4 10.96.0.1", "PreferDual 4 10.96.0.1", "PreferDual 46 10.96.0.1,fd00::1"},
		{"Single 6 fd00::1", "RequireDual - -", "RequireDual 64 fd00::1,10.96.0.1"},
		{"Single 4 10.96.0.1", "RequireDual 46 10.96.0.1,fd00::7", "RequireDual 46 10.96.0.1,fd00::7"},
		{"Single 4 10.96.0.1", "RequireDual - 10.96.0.1,fd00::7", "RequireDual 46 10.96.0.1,fd00::7"},
		{"Single 4 10.96.0.1", "- 46 -", manyFams},
		{"Single 4 10.96.0.1", "- - 10.96.0.1,fd00::7", manyIPs},
		{"PreferDual 4 10.96.0.1", "- - -", "PreferDual 4 10.96.0.1"}, // made when the cluster had one family
		{"PreferDual 4 10.96.0.1", "PreferDual 4 10.96.0.1", "PreferDual 4 10.96.0.1"},
		{"PreferDual 4 10.96.0.1", "RequireDual - -", "RequireDual 46 10.96.0.1,fd00::1"},
		{"PreferDual 4 10.96.0.1", "PreferDual 46 10.96.0.1", "PreferDual 46 10.96.0.1,fd00::1"},
		{"PreferDual 46 10.96.0.1,fd00::1", "- - -", "PreferDual 46 10.96.0.1,fd00::1"},
		{"PreferDual 46 10.96.0.1,fd00::1", "RequireDual - -", "RequireDual 46 10.96.0.1,fd00::1"},
		{"PreferDual 46 10.96.0.1,fd00::1", "Single - -", "Single 4 10.96.0.1"},
		{"RequireDual 64 fd00::1,10.96.0.1", "Single 64 fd00::1,10.96.0.1", "Single 6 fd00::1"},
		{"RequireDual 64 fd00::1,10.96.0.1", "Single 6 -", "Single 6 fd00::1"},
		{"RequireDual 64 fd00::1,10.96.0.1", "Single - fd00::1", "Single 6 fd00::1"},
		{"RequireDual 64 fd00::1,10.96.0.1", "- - fd00::1", second + "cluster IP"},
		{"RequireDual 64 fd00::1,10.96.0.1", "- 6 -", second + "IP family"},
		{"PreferDual 46 10.96.0.1,fd00::1", "PreferDual 4 10.96.0.1", second + "cluster IP"},
		{"Single 4 None", "PreferDual - -", "PreferDual 46 None"},
		{"PreferDual 46 None", "Single - -", "Single 4 None"},
		{"PreferDual 46 None", "Single 6 None", "Single 6 None"},
	} {
		t.Run(c.old+" asks "+c.asks, func(t *testing.T) {
			s, old := ofFamilies(t, "46"), wishing(c.old, true)
			six := s.p.ips[1].(*shelf)
			for _, ip := range addresses(old) {
				s.p.of(familyOf(ip)).(*shelf).taken[ip.String()] = true
			}
			next := wishing(c.asks, true)
			err := s.write(admission.Update, next, old, true)
			has := old
			if err != nil {
				refused(t, err, metav1.StatusReasonInvalid, c.want)
			} else if has = next; shortFamilies(next) != c.want {
				t.Errorf("got %s, want %s", shortFamilies(next), c.want)
			}
			for _, shelf := range []*shelf{s.four, six} { // nothing is marked but what it has
				for text := range shelf.taken {
					if !strings.Contains(strings.Join(has.Spec.ClusterIPs, ","), text) {
						t.Errorf("%s is still taken", text)
					}
				}
			}
			for _, ip := range addresses(has) {
				if !s.p.of(familyOf(ip)).(*shelf).taken[ip.String()] {
					t.Errorf("%s is not taken", ip)
				}
			}
		})
	}
}

// An address of another family than the one named is the kind's to refuse: the range of that family is not asked.
func TestAddressOfAnotherFamily(t *testing.T) {
	s := ofFamilies(t, "46")
	wrong := wishing("Single 6 10.96.0.9", true)
	refused(t, s.write(admission.Create, wrong, nil, false), "", "")
	if _, err := netip.ParseAddr(wrong.Spec.ClusterIP); err != nil || len(s.four.taken) != 0 {
		t.Errorf("got %s, and %v are taken", shortFamilies(wrong), s.four.taken)
	}
}
