package core

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	serviceTypes = sets.New(corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	affinities   = sets.New(corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	protocols    = sets.New(corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
	outsides     = sets.New(corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	insides      = sets.New(corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	spreads      = sets.New(corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)
)

const longestAffinity = 86400 // seconds

func validateService(s *corev1.Service) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateServiceType(s, spec)
	errs = append(errs, validateServicePorts(s, spec.Child("ports"))...)
	errs = append(errs, metav1validation.ValidateLabels(s.Spec.Selector, spec.Child("selector"))...)
	errs = append(errs, validateSessionAffinity(s, spec)...)
	errs = append(errs, validateClusterIPs(s, spec)...)
	errs = append(errs, validateServiceTraffic(s, spec)...)
	errs = append(errs, validateLoadBalancer(s, spec)...)
	hints, old := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, now := s.Annotations[corev1.AnnotationTopologyMode]
	if old && now && mode != hints {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.AnnotationTopologyMode), mode,
			fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints)))
	}
	for i, ip := range s.Spec.ExternalIPs {
		path := spec.Child("externalIPs").Index(i)
		bad := validation.IsValidIPForLegacyField(path, ip, true, nil)
		if errs = append(errs, bad...); len(bad) == 0 {
			errs = append(errs, validatePublicIP(ip, path)...)
		}
	}
	return errs
}

func validateServiceType(s *corev1.Service, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Spec.Type == "" {
		return field.ErrorList{field.Required(spec.Child("type"), "")}
	}
	if !serviceTypes.Has(s.Spec.Type) {
		errs = append(errs, field.NotSupported(spec.Child("type"), s.Spec.Type, sets.List(serviceTypes)))
	}
	if len(s.Spec.Ports) == 0 && !headless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(spec.Child("ports"), ""))
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if headless(s) {
			errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(0), s.Spec.ClusterIP,
				fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type)))
		}
	case corev1.ServiceTypeExternalName:
		// A dot at the end is how an absolute name is written in DNS.
		name := strings.TrimSuffix(s.Spec.ExternalName, ".")
		if name == "" {
			errs = append(errs, field.Required(spec.Child("externalName"), ""))
			break
		}
		for _, msg := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(spec.Child("externalName"), name, msg))
		}
	}
	return errs
}

func validateServicePorts(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type where struct {
		protocol corev1.Protocol
		port     int32
	}
	names, ports, nodePorts := sets.New[string](), sets.New[where](), sets.New[where]()
	for i := range s.Spec.Ports {
		p, at := &s.Spec.Ports[i], path.Index(i)
		if p.Name == "" && len(s.Spec.Ports) > 1 {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if p.Name != "" {
			for _, msg := range validation.IsDNS1123Label(p.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
			}
			if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		for _, msg := range validation.IsValidPortNum(int(p.Port)) {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port, msg))
		}
		if p.Protocol == "" {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else if !protocols.Has(p.Protocol) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), p.Protocol, sets.List(protocols)))
		}
		errs = append(errs, validateTargetPort(p.TargetPort, at.Child("targetPort"))...)
		if p.AppProtocol != nil {
			for _, msg := range validation.IsQualifiedName(*p.AppProtocol) {
				errs = append(errs, field.Invalid(at.Child("appProtocol"), *p.AppProtocol, msg))
			}
		}
		if p.NodePort != 0 {
			errs = append(errs, validateNodePort(s, p, at.Child("nodePort"))...)
			if key := (where{p.Protocol, p.NodePort}); nodePorts.Has(key) {
				errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
			} else {
				nodePorts.Insert(key)
			}
		}
		if key := (where{p.Protocol, p.Port}); ports.Has(key) {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
		} else {
			ports.Insert(key)
		}
	}
	return errs
}

func validateNodePort(s *corev1.Service, p *corev1.ServicePort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !hasNodePort(s) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("may not be used when `type` is '%s'", s.Spec.Type)))
	}
	for _, msg := range validation.IsValidPortNum(int(p.NodePort)) {
		errs = append(errs, field.Invalid(path, p.NodePort, msg))
	}
	return errs
}

func validateTargetPort(p intstr.IntOrString, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Type == intstr.Int {
		for _, msg := range validation.IsValidPortNum(p.IntValue()) {
			errs = append(errs, field.Invalid(path, p.IntValue(), msg))
		}
		return errs
	}
	for _, msg := range validation.IsValidPortName(p.StrVal) {
		errs = append(errs, field.Invalid(path, p.StrVal, msg))
	}
	return errs
}

func validateSessionAffinity(s *corev1.Service, spec *field.Path) field.ErrorList {
	config := spec.Child("sessionAffinityConfig")
	when := fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP)
	switch s.Spec.SessionAffinity {
	case "":
		return field.ErrorList{field.Required(spec.Child("sessionAffinity"), "")}
	case corev1.ServiceAffinityNone:
		if s.Spec.SessionAffinityConfig != nil {
			return field.ErrorList{field.Forbidden(config, "must not be set when session affinity is None")}
		}
	case corev1.ServiceAffinityClientIP:
		c := s.Spec.SessionAffinityConfig
		switch {
		case c == nil:
			return field.ErrorList{field.Required(config, when)}
		case c.ClientIP == nil:
			return field.ErrorList{field.Required(config.Child("clientIP"), when)}
		case c.ClientIP.TimeoutSeconds == nil:
			return field.ErrorList{field.Required(config.Child("clientIP").Child("timeoutSeconds"), when)}
		}
		if t := *c.ClientIP.TimeoutSeconds; t <= 0 || t > longestAffinity {
			return field.ErrorList{field.Invalid(config.Child("clientIP").Child("timeoutSeconds"), t,
				fmt.Sprintf("must be greater than 0 and less than %d", longestAffinity))}
		}
	default:
		return field.ErrorList{field.NotSupported(spec.Child("sessionAffinity"), s.Spec.SessionAffinity, sets.List(affinities))}
	}
	return nil
}

func validateServiceTraffic(s *corev1.Service, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p := s.Spec.ExternalTrafficPolicy; p != "" {
		path := spec.Child("externalTrafficPolicy")
		switch {
		case !reachableFromOutside(s):
			errs = append(errs, field.Invalid(path, p, "may only be set for externally-accessible services"))
		case !outsides.Has(p):
			errs = append(errs, field.NotSupported(path, p, sets.List(outsides)))
		}
	} else if reachableFromOutside(s) {
		errs = append(errs, field.Required(spec.Child("externalTrafficPolicy"), ""))
	}
	if p := s.Spec.InternalTrafficPolicy; p == nil {
		if hasClusterIP(s) {
			errs = append(errs, field.Required(spec.Child("internalTrafficPolicy"), ""))
		}
	} else if !insides.Has(*p) {
		errs = append(errs, field.NotSupported(spec.Child("internalTrafficPolicy"), *p, sets.List(insides)))
	}
	switch n, path := s.Spec.HealthCheckNodePort, spec.Child("healthCheckNodePort"); {
	case n != 0 && !wantsHealthCheckPort(s):
		errs = append(errs, field.Invalid(path, n, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	case n == 0 && wantsHealthCheckPort(s):
		errs = append(errs, field.Required(path, ""))
	case n != 0:
		for _, msg := range validation.IsValidPortNum(int(n)) {
			errs = append(errs, field.Invalid(path, n, msg))
		}
	}
	if d := s.Spec.TrafficDistribution; d != nil && !spreads.Has(*d) {
		errs = append(errs, field.NotSupported(spec.Child("trafficDistribution"), *d, sets.List(spreads)))
	}
	return errs
}

func wantsHealthCheckPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func validateLoadBalancer(s *corev1.Service, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	balanced := s.Spec.Type == corev1.ServiceTypeLoadBalancer
	ranges := spec.Child("loadBalancerSourceRanges")
	if len(s.Spec.LoadBalancerSourceRanges) > 0 && !balanced {
		errs = append(errs, field.Forbidden(ranges, "may only be used when `type` is 'LoadBalancer'"))
	}
	if text, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]; ok && len(s.Spec.LoadBalancerSourceRanges) == 0 {
		errs = append(errs, validateRangesAnnotation(s, text)...)
	}
	for i, r := range s.Spec.LoadBalancerSourceRanges {
		errs = append(errs, validation.IsValidCIDRForLegacyField(ranges.Index(i), strings.TrimSpace(r), true, nil)...)
	}
	if p := s.Spec.AllocateLoadBalancerNodePorts; balanced && p == nil {
		errs = append(errs, field.Required(spec.Child("allocateLoadBalancerNodePorts"), ""))
	} else if !balanced && p != nil {
		errs = append(errs, field.Forbidden(spec.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	}
	if c := s.Spec.LoadBalancerClass; c != nil {
		path := spec.Child("loadBalancerClass")
		if !balanced {
			errs = append(errs, field.Forbidden(path, "may only be used when `type` is 'LoadBalancer'"))
		}
		for _, msg := range validation.IsQualifiedName(*c) {
			errs = append(errs, field.Invalid(path, *c, msg))
		}
	}
	return errs
}

// validateRangesAnnotation checks the older form of the ranges.
func validateRangesAnnotation(s *corev1.Service, text string) field.ErrorList {
	path := field.NewPath("metadata", "annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
	var errs field.ErrorList
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(path, "may only be used when `type` is 'LoadBalancer'"))
	}
	if strings.TrimSpace(text) == "" {
		return errs
	}
	for r := range strings.SplitSeq(text, ",") {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path, strings.TrimSpace(r), true, nil)...)
	}
	return errs
}

// validatePublicIP refuses addresses that cannot be meant for the outside.
func validatePublicIP(text string, path *field.Path) field.ErrorList {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return field.ErrorList{field.Invalid(path, text, "must be a valid IP address")}
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
	return field.ErrorList{field.Invalid(path, text, why)}
}
