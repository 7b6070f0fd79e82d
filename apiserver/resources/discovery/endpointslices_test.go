package discovery

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry/kindtest"
)

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func slice(kind discoveryv1.AddressType, addresses ...string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{AddressType: kind, Endpoints: []discoveryv1.Endpoint{{Addresses: addresses}}}
}

func TestValidate(t *testing.T) {
	many := make([]discoveryv1.Endpoint, 1001)
	for i := range many {
		many[i].Addresses = []string{"10.0.0.1"}
	}
	for _, c := range []struct {
		name string
		s    *discoveryv1.EndpointSlice
		want []string
	}{
		{"IPv4", slice("IPv4", "10.0.0.1"), nil},
		{"IPv6", slice("IPv6", "fd00::1"), nil},
		{"a name", slice("FQDN", "a.example.org"), nil},
		{"no type", slice("", "10.0.0.1"), []string{"addressType: Required value"}},
		{"no such type", slice("MAC"), []string{"addressType: Unsupported value", "endpoints[0].addresses: Required value"}},
		{"of the other family", slice("IPv6", "10.0.0.1"), []string{"endpoints[0].addresses[0]: Invalid value"}},
		{"nowhere", slice("IPv4", "127.0.0.1"), []string{"endpoints[0].addresses[0]: Invalid value"}},
		{"too many", &discoveryv1.EndpointSlice{AddressType: "IPv4", Endpoints: many}, []string{"endpoints: Too many"}},
		{"ports", &discoveryv1.EndpointSlice{AddressType: "IPv4", Ports: []discoveryv1.EndpointPort{{Port: ptr.To[int32](0)}, {}, {Name: ptr.To("A")}}},
			[]string{"ports[0].port: Invalid value", "ports[1].name: Duplicate value", "ports[2].name: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			EndpointSlices.Default(c.s)
			if got := brief(EndpointSlices.Validate(c.s)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := brief(EndpointSlices.ValidateUpdate(slice("IPv4"), slice("IPv6"))); !slices.Equal(got, []string{"addressType: Invalid value"}) {
		t.Errorf("another type: %q", got)
	}
}

func TestColumns(t *testing.T) {
	s := slice("IPv4", "10.0.0.1")
	s.Endpoints = append(s.Endpoints, slice("IPv4", "10.0.0.2", "10.0.0.3").Endpoints[0], slice("IPv4", "10.0.0.4").Endpoints[0])
	s.Ports = []discoveryv1.EndpointPort{{Port: ptr.To[int32](80)}, {Name: ptr.To("x")}, {}}
	got := map[string]string{}
	for i, v := range EndpointSlices.Cells(s) {
		got[EndpointSlices.Columns[i].Name] = fmt.Sprint(v)
	}
	for k, v := range map[string]string{"AddressType": "IPv4", "Ports": "80,x,*", "Endpoints": "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."} {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if v := addressesText(nil); v != "<unset>" {
		t.Errorf("nothing is %q", v)
	}
}

func TestLives(t *testing.T) {
	const slice = `{addressType: IPv4, metadata: {labels: {kubernetes.io/service-name: web}}, endpoints: [{addresses: [10.0.0.1], deprecatedTopology: {a: b}}]}`
	s := kindtest.New(t, EndpointSlices, slice, "").(*discoveryv1.EndpointSlice)
	EndpointSlices.BeforeCreate(s)
	if s.Endpoints[0].DeprecatedTopology != nil {
		t.Error("keeps the topology")
	}
	for diff, counted := range map[string]bool{`{metadata: {labels: {a: b}}}`: true, `{metadata: {annotations: {a: b}}}`: false} {
		old, s := kindtest.New(t, EndpointSlices, slice, ""), kindtest.New(t, EndpointSlices, slice, diff)
		EndpointSlices.BeforeUpdate(s, old)
		if got := s.GetGeneration() > old.GetGeneration(); got != counted {
			t.Errorf("%s: counted is %t", diff, got)
		}
	}
}

func TestHintsAndWarnings(t *testing.T) {
	const slice = `{addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}]}`
	nine := strings.TrimSuffix(strings.Repeat("{name: z}, ", 9), ", ")
	kindtest.Create(t, EndpointSlices, slice, []kindtest.Case{
		{Name: "good", Diff: `{endpoints: [{addresses: [10.0.0.1], hints: {forZones: [{name: a}], forNodes: [{name: b}]}}]}`},
		{Name: "twice", Diff: `{endpoints: [{addresses: [10.0.0.1], hints: {forZones: [{name: a}, {name: a}], forNodes: [{name: b}, {name: B_}]}}]}`,
			Want: []string{"endpoints[0].hints.forNodes[1].name: Invalid value", "endpoints[0].hints.forZones[1]: Duplicate value"}},
		{Name: "many", Diff: `{endpoints: [{addresses: [10.0.0.1], hints: {forZones: [` + nine + `]}}]}`, Want: []string{"endpoints[0].hints.forZones: Too many"}},
		{Name: "mapped", Diff: `{addressType: IPv6, endpoints: [{addresses: ["::ffff:10.0.0.1"]}]}`, Want: []string{"endpoints[0].addresses[0]: Invalid value"}},
	})
	for diff, want := range map[string]int{"": 0, `{addressType: FQDN, endpoints: []}`: 1, `{addressType: IPv6, endpoints: [{addresses: ["FD00::0:1"]}]}`: 1} {
		if got := EndpointSlices.Warn(kindtest.New(t, EndpointSlices, slice, diff), nil); len(got) != want {
			t.Errorf("%s: warns %q", diff, got)
		}
	}
}
