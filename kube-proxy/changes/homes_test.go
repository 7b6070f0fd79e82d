package changes_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"pilothouse.dev/kube-proxy/changes"
)

func TestHomes(t *testing.T) {
	six := slice("six", "web", "fd01::2 f ready")
	six.AddressType = discoveryv1.AddressTypeIPv6
	for _, c := range []struct {
		name string
		all  []*discoveryv1.EndpointSlice
		want string
	}{
		{"none", nil, ""},
		{"another service's", []*discoveryv1.EndpointSlice{slice("a", "other", "10.1.0.1 a ready")}, ""},
		{"ready ones, of two slices", []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 a ready", "10.1.0.2 b notready"), slice("b", "web", "10.1.0.3 c ready")}, "a c"},
		{"ending ones only where none is ready", []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 a ready", "10.1.0.2 b terminating")}, "a"},
		{"all end", []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 a terminating", "10.1.0.2 b gone")}, "a"},
		{"of the other family", []*discoveryv1.EndpointSlice{six}, ""},
		{"nothing said is ready", []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 a unset")}, "a"},
	} {
		v4, v6 := changes.New(thisNode, false), changes.New(thisNode, true)
		for _, s := range c.all {
			v4.SetSlice(s)
			v6.SetSlice(s)
		}
		if got := strings.Join(slices.Sorted(maps.Keys(v4.Homes("d", "web"))), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if got := v6.Homes("d", "web"); (len(got) > 0) != slices.Contains(c.all, six) {
			t.Errorf("%s: of IPv6: %v", c.name, got)
		}
	}
}
