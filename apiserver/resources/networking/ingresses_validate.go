package networking

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"pilothouse.dev/apiserver/registry"
)

var (
	pathTypes    = []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}
	notInPaths   = []string{"//", "/./", "/../", "%2f", "%2F"}
	notEndsPaths = []string{"/..", "/."}
)

func validateIngress(g *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	at, s := field.NewPath("spec"), &g.Spec
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		errs = append(errs, field.Invalid(at, s.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if s.DefaultBackend != nil {
		errs = append(errs, validateBackend(s.DefaultBackend, at.Child("defaultBackend"))...)
	}
	for i := range s.Rules {
		errs = append(errs, validateIngressRule(&s.Rules[i], at.Child("rules").Index(i))...)
	}
	for i, t := range s.TLS {
		at := at.Child("tls").Index(i)
		for j, host := range t.Hosts {
			errs = append(errs, validateHost(host, at.Child("hosts").Index(j))...)
		}
		if t.SecretName != "" {
			errs = append(errs, registry.Invalid(t.SecretName, apivalidation.NameIsDNSSubdomain(t.SecretName, false), at.Child("secretName"))...)
		}
	}
	if c := s.IngressClassName; c != nil {
		errs = append(errs, registry.Invalid(*c, apivalidation.NameIsDNSSubdomain(*c, false), at.Child("ingressClassName"))...)
	}
	// The annotation may say something else only in objects that are there already; a new one has no version yet.
	if old, set := g.Annotations[annotationClass]; set && g.ResourceVersion == "" && s.IngressClassName != nil && old != *s.IngressClassName {
		errs = append(errs, field.Invalid(field.NewPath("annotations").Child(annotationClass), old, "must match `ingressClassName` when both are specified"))
	}
	return errs
}

// validateHost checks a DNS name whose first label may be a star.
func validateHost(host string, at *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return registry.Invalid(host, validation.IsWildcardDNS1123Subdomain(host), at)
	}
	return registry.Invalid(host, validation.IsDNS1123Subdomain(host), at)
}

func validateIngressRule(r *networkingv1.IngressRule, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Host != "" {
		if netutils.ParseIPSloppy(r.Host) != nil {
			errs = append(errs, field.Invalid(at.Child("host"), r.Host, "must be a DNS name, not an IP address"))
		}
		errs = append(errs, validateHost(r.Host, at.Child("host"))...)
	}
	if r.HTTP == nil {
		return errs
	}
	at = at.Child("http", "paths")
	if len(r.HTTP.Paths) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	for i := range r.HTTP.Paths {
		errs = append(errs, validatePath(&r.HTTP.Paths[i], at.Index(i))...)
	}
	return errs
}

func validatePath(p *networkingv1.HTTPIngressPath, at *field.Path) field.ErrorList {
	if p.PathType == nil {
		return field.ErrorList{field.Required(at.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
	where := at.Child("path")
	absolute := strings.HasPrefix(p.Path, "/")
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !absolute {
			errs = append(errs, field.Invalid(where, p.Path, "must be an absolute path"))
		}
		for _, bad := range notInPaths {
			if strings.Contains(p.Path, bad) {
				errs = append(errs, field.Invalid(where, p.Path, fmt.Sprintf("must not contain '%s'", bad)))
			}
		}
		for _, bad := range notEndsPaths {
			if strings.HasSuffix(p.Path, bad) {
				errs = append(errs, field.Invalid(where, p.Path, fmt.Sprintf("cannot end with '%s'", bad)))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !absolute {
			errs = append(errs, field.Invalid(where, p.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("pathType"), *p.PathType, pathTypes))
	}
	return append(errs, validateBackend(&p.Backend, at.Child("backend"))...)
}

// validateBackend checks that a backend is a service or a resource, and that one.
func validateBackend(b *networkingv1.IngressBackend, at *field.Path) field.ErrorList {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(at, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return validateLocalRef(b.Resource, at.Child("resource"))
	case b.Service == nil:
		return field.ErrorList{field.Invalid(at, "", "resource or service backend is required")}
	}
	var errs field.ErrorList
	if name := b.Service.Name; name == "" {
		errs = append(errs, field.Required(at.Child("service", "name"), ""))
	} else {
		errs = append(errs, registry.Invalid(name, apivalidation.NameIsDNSLabel(name, false), at.Child("service", "name"))...)
	}
	switch port := b.Service.Port; {
	case port.Name != "" && port.Number != 0:
		errs = append(errs, field.Invalid(at, "", "cannot set both port name & port number"))
	case port.Name != "":
		errs = append(errs, registry.Invalid(port.Name, validation.IsValidPortName(port.Name), at.Child("service", "port", "name"))...)
	case port.Number != 0:
		errs = append(errs, registry.Invalid(port.Number, validation.IsValidPortNum(int(port.Number)), at.Child("service", "port", "number"))...)
	default:
		errs = append(errs, field.Required(at, "port name or number is required"))
	}
	return errs
}

func validateLocalRef(r *corev1.TypedLocalObjectReference, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if g := r.APIGroup; g != nil {
		errs = append(errs, registry.Invalid(*g, validation.IsDNS1123Subdomain(*g), at.Child("apiGroup"))...)
	}
	errs = append(errs, segment(r.Kind, at.Child("kind"))...)
	return append(errs, segment(r.Name, at.Child("name"))...)
}

func validateIngressStatus(g, old *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	var known []string
	for _, p := range old.Status.LoadBalancer.Ingress {
		known = append(known, p.IP)
	}
	for i, p := range g.Status.LoadBalancer.Ingress {
		at := field.NewPath("status", "loadBalancer", "ingress").Index(i)
		if p.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), p.IP, true, known)...)
		}
		if p.Hostname == "" {
			continue
		}
		errs = append(errs, registry.Invalid(p.Hostname, validation.IsDNS1123Subdomain(p.Hostname), at.Child("hostname"))...)
		if netutils.ParseIPSloppy(p.Hostname) != nil {
			errs = append(errs, field.Invalid(at.Child("hostname"), p.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return errs
}
