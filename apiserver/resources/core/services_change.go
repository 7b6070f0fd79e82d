package core

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var ipModes = sets.New(corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)

func validateServiceUpdate(s, old *corev1.Service) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateClusterIPChange(s, old, spec)
	balanced := old.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.Type == corev1.ServiceTypeLoadBalancer
	if balanced && !ptr.Equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(spec.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set"))
	}
	if wantsHealthCheckPort(s) && wantsHealthCheckPort(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(spec.Child("healthCheckNodePort"), "field is immutable"))
	}
	return errs
}

func validateServiceStatus(s, _ *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("status", "loadBalancer", "ingress")
	if len(s.Status.LoadBalancer.Ingress) > 0 && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'"))
	}
	for i := range s.Status.LoadBalancer.Ingress {
		errs = append(errs, validateIngress(&s.Status.LoadBalancer.Ingress[i], path.Index(i))...)
	}
	return append(errs, metav1validation.ValidateConditions(s.Status.Conditions, field.NewPath("status", "conditions"))...)
}

// validateIngress checks one address of a balancer.
func validateIngress(in *corev1.LoadBalancerIngress, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if in.IP != "" {
		errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), in.IP, true, nil)...)
	}
	switch mode := at.Child("ipMode"); {
	case in.IP != "" && in.IPMode == nil:
		errs = append(errs, field.Required(mode, "must be specified when `ip` is set"))
	case in.IP == "" && in.IPMode != nil:
		errs = append(errs, field.Forbidden(mode, "may not be specified when `ip` is not set"))
	case in.IPMode != nil && !ipModes.Has(*in.IPMode):
		errs = append(errs, field.NotSupported(mode, *in.IPMode, sets.List(ipModes)))
	}
	if in.Hostname != "" {
		for _, msg := range validation.IsDNS1123Subdomain(in.Hostname) {
			errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, msg))
		}
		if _, err := netip.ParseAddr(in.Hostname); err == nil {
			errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	for i, p := range in.Ports {
		at := at.Child("ports").Index(i)
		for _, msg := range validation.IsValidPortNum(int(p.Port)) {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port, msg))
		}
		if !protocols.Has(p.Protocol) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), p.Protocol, sets.List(protocols)))
		}
		if p.Error != nil {
			errs = append(errs, validateQualified(*p.Error, at.Child("error"))...)
		}
	}
	return errs
}

func warnService(s, _ *corev1.Service) []string {
	var out []string
	spec := field.NewPath("spec")
	if headless(s) {
		if s.Spec.LoadBalancerIP != "" {
			out = append(out, "spec.loadBalancerIP is ignored when spec.clusterIP is \"None\"")
		}
		if len(s.Spec.ExternalIPs) > 0 {
			out = append(out, "spec.externalIPs is ignored when spec.clusterIP is \"None\"")
		}
		if s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
			out = append(out, "spec.SessionAffinity is ignored for headless services")
		}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName && len(s.Spec.ExternalIPs) > 0 {
		out = append(out, fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName))
	}
	ips := func(list []string, name string) {
		for i, ip := range list {
			if ip != corev1.ClusterIPNone {
				out = append(out, validation.GetWarningsForIP(spec.Child(name).Index(i), ip)...)
			}
		}
	}
	ips(s.Spec.ClusterIPs, "clusterIPs")
	ips(s.Spec.ExternalIPs, "externalIPs")
	for i, cidr := range s.Spec.LoadBalancerSourceRanges {
		out = append(out, validation.GetWarningsForCIDR(spec.Child("loadBalancerSourceRanges").Index(i), cidr)...)
	}
	return out
}
