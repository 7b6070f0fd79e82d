package discovery

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var (
	addressTypes = sets.New(discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	protocols    = sets.New(corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
)

const (
	mostEndpoints = 1000
	mostAddresses = 100 // an endpoint
	mostPorts     = 20000
	mostHints     = 8
)

func validateSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("addressType")
	switch {
	case s.AddressType == "":
		errs = append(errs, field.Required(path, ""))
	case !addressTypes.Has(s.AddressType):
		errs = append(errs, field.NotSupported(path, s.AddressType, sets.List(addressTypes)))
	}
	endpoints := field.NewPath("endpoints")
	if len(s.Endpoints) > mostEndpoints {
		errs = append(errs, field.TooMany(endpoints, len(s.Endpoints), mostEndpoints))
	} else {
		for i := range s.Endpoints {
			errs = append(errs, validateEndpoint(&s.Endpoints[i], s.AddressType, endpoints.Index(i))...)
		}
	}
	return append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
}

func validateEndpoint(e *discoveryv1.Endpoint, kind discoveryv1.AddressType, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	addresses := at.Child("addresses")
	if len(e.Addresses) == 0 {
		errs = append(errs, field.Required(addresses, "must contain at least 1 address"))
	}
	if len(e.Addresses) > mostAddresses {
		errs = append(errs, field.TooMany(addresses, len(e.Addresses), mostAddresses))
	}
	for i, a := range e.Addresses {
		errs = append(errs, validateAddress(a, kind, addresses.Index(i))...)
	}
	if e.NodeName != nil {
		for _, msg := range validation.IsDNS1123Subdomain(*e.NodeName) {
			errs = append(errs, field.Invalid(at.Child("nodeName"), *e.NodeName, msg))
		}
	}
	if e.Hostname != nil {
		for _, msg := range validation.IsDNS1123Label(*e.Hostname) {
			errs = append(errs, field.Invalid(at.Child("hostname"), *e.Hostname, msg))
		}
	}
	if e.Hints == nil {
		return errs
	}
	zones, nodes := make([]string, len(e.Hints.ForZones)), make([]string, len(e.Hints.ForNodes))
	for i, z := range e.Hints.ForZones {
		zones[i] = z.Name
	}
	for i, n := range e.Hints.ForNodes {
		nodes[i] = n.Name
	}
	errs = append(errs, validateHints(zones, validation.IsValidLabelValue, at.Child("hints").Child("forZones"))...)
	return append(errs, validateHints(nodes, validation.IsDNS1123Subdomain, at.Child("hints").Child("forNodes"))...)
}

// validateHints checks for whom an endpoint is meant, zones or nodes.
func validateHints(names []string, check func(string) []string, at *field.Path) field.ErrorList {
	if len(names) > mostHints {
		return field.ErrorList{field.TooMany(at, len(names), mostHints)}
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, name := range names {
		if seen.Has(name) {
			errs = append(errs, field.Duplicate(at.Index(i), name))
		}
		seen.Insert(name)
		for _, msg := range check(name) {
			errs = append(errs, field.Invalid(at.Index(i).Child("name"), name, msg))
		}
	}
	return errs
}

func validateAddress(a string, kind discoveryv1.AddressType, at *field.Path) field.ErrorList {
	switch kind {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
		ip, err := netip.ParseAddr(a)
		if err != nil || ip.Zone() != "" || ip.Is4In6() || ip.Is4() != (kind == discoveryv1.AddressTypeIPv4) {
			return field.ErrorList{field.Invalid(at, a, "must be an "+string(kind)+" address")}
		}
		var why string
		switch {
		case ip.IsUnspecified():
			why = "may not be unspecified (0.0.0.0 or ::)"
		case ip.IsLoopback():
			why = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
		case ip.IsLinkLocalUnicast():
			why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
		case ip.IsLinkLocalMulticast():
			why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
		default:
			return nil
		}
		return field.ErrorList{field.Invalid(at, a, why)}
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(at, a)
	}
	return nil
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(ports) > mostPorts {
		errs = append(errs, field.TooMany(path, len(ports), mostPorts))
	}
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		name := ptr.Deref(p.Name, "")
		if name != "" {
			for _, msg := range validation.IsDNS1123Label(name) {
				errs = append(errs, field.Invalid(at.Child("name"), name, msg))
			}
		}
		if names.Has(name) {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names.Insert(name)
		if p.Protocol == nil {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else if !protocols.Has(*p.Protocol) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, sets.List(protocols)))
		}
		if p.Port != nil {
			for _, msg := range validation.IsValidPortNum(int(*p.Port)) {
				errs = append(errs, field.Invalid(at.Child("port"), *p.Port, msg))
			}
		}
		if p.AppProtocol != nil {
			for _, msg := range validation.IsQualifiedName(*p.AppProtocol) {
				errs = append(errs, field.Invalid(at.Child("appProtocol"), *p.AppProtocol, msg))
			}
		}
	}
	return errs
}

func validateSliceUpdate(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	return apivalidation.ValidateImmutableField(s.AddressType, old.AddressType, field.NewPath("addressType"))
}
