// Package discovery declares the kinds of the group discovery.k8s.io, a file each.
package discovery

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// EndpointSlices are who answers for a service, in pieces.
var EndpointSlices = registry.Define(registry.Kind[*discoveryv1.EndpointSlice]{
	Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice", Plural: "endpointslices",
	Namespaced: true,
	// Counted by the write path: everything beside metadata is what the slice says.
	Generation:     true,
	Default:        defaultSlice,
	Validate:       validateSlice,
	ValidateUpdate: validateSliceUpdate,
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
