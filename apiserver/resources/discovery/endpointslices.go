// Package discovery declares the kinds of the group discovery.k8s.io, a file each.
package discovery

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// EndpointSlices are who answers for a service, in pieces.
var EndpointSlices = registry.Define(registry.Kind[*discoveryv1.EndpointSlice]{
	Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice", Plural: "endpointslices",
	Namespaced: true,
	// Counted by the write path: everything beside metadata is what the slice says. Labels are counted here, since they say of
	// which service it is.
	Generation:   true,
	Default:      defaultSlice,
	BeforeCreate: dropTopology,
	BeforeUpdate: func(s, old *discoveryv1.EndpointSlice) {
		dropTopology(s)
		if s.Generation == old.Generation && !apiequality.Semantic.DeepEqual(s.Labels, old.Labels) {
			s.Generation++
		}
	},
	Validate:       validateSlice,
	ValidateUpdate: validateSliceUpdate,
	Warn:           func(s, _ *discoveryv1.EndpointSlice) []string { return warnSlice(s) },
	Columns: []registry.Column[*discoveryv1.EndpointSlice]{
		{Name: "AddressType", Description: "IPv4, IPv6 or FQDN.", Value: func(s *discoveryv1.EndpointSlice) any { return string(s.AddressType) }},
		{Name: "Ports", Description: "Ports of every endpoint.", Value: func(s *discoveryv1.EndpointSlice) any { return portsText(s.Ports) }},
		{Name: "Endpoints", Description: "Addresses of the endpoints.", Value: func(s *discoveryv1.EndpointSlice) any { return addressesText(s.Endpoints) }},
		registry.Age[*discoveryv1.EndpointSlice](),
	},
})

func defaultSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Name == nil {
			p.Name = ptr.To("")
		}
		if p.Protocol == nil {
			p.Protocol = ptr.To(corev1.ProtocolTCP)
		}
	}
}

// dropTopology drops what the field of an older version says: it is not to be written through this one.
func dropTopology(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

func warnSlice(s *discoveryv1.EndpointSlice) []string {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return []string{"addressType: FQDN endpoints are deprecated"}
	}
	var out []string
	for i, e := range s.Endpoints {
		for j, a := range e.Addresses {
			out = append(out, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), a)...)
		}
	}
	return out
}

const shown = 3 // in a column

func portsText(ports []discoveryv1.EndpointPort) string {
	var all []string
	for _, p := range ports {
		switch {
		case p.Port != nil:
			all = append(all, strconv.Itoa(int(*p.Port)))
		case p.Name != nil && *p.Name != "":
			all = append(all, *p.Name)
		default:
			all = append(all, "*")
		}
	}
	return list(all)
}

func addressesText(endpoints []discoveryv1.Endpoint) string {
	var all []string
	for _, e := range endpoints {
		all = append(all, e.Addresses...)
	}
	return list(all)
}

func list(all []string) string {
	if len(all) == 0 {
		return "<unset>"
	}
	if len(all) > shown {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:shown], ","), len(all)-shown)
	}
	return strings.Join(all, ",")
}
