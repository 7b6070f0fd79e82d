package core

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/resources/podspec"
)

func validateNode(n *corev1.Node) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateTaints(n.Spec.Taints, field.NewPath("metadata", "taints")) // the path that users of Kubernetes know
	errs = append(errs, validateNodeResources(n)...)
	if len(n.Spec.PodCIDRs) > 0 {
		errs = append(errs, validatePodCIDRs(n, spec)...)
	}
	return errs
}

func validateNodeStatus(n, old *corev1.Node) field.ErrorList {
	return append(validateNodeResources(n), validateNodeAddresses(n)...)
}

func validateNodeAddresses(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		seen[a] = true
	}
	return errs
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	status := field.NewPath("status")
	for name, q := range n.Status.Capacity {
		errs = append(errs, podspec.ValidateQuantity(name, q, status.Child("capacity", string(name)))...)
	}
	for name, q := range n.Status.Allocatable {
		errs = append(errs, podspec.ValidateQuantity(name, q, status.Child("allocatable", string(name)))...)
	}
	return errs
}

func validatePodCIDRs(n *corev1.Node, spec *field.Path) field.ErrorList {
	path := spec.Child("podCIDRs")
	var errs field.ErrorList
	seen := map[netip.Prefix]bool{}
	four, six := 0, 0
	for i, text := range n.Spec.PodCIDRs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, field.Invalid(path.Index(i), text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
			continue
		}
		if seen[p] {
			errs = append(errs, field.Duplicate(path.Index(i), text))
		}
		seen[p] = true
		if p.Addr().Is4() {
			four++
		} else {
			six++
		}
	}
	if len(n.Spec.PodCIDRs) > 2 || four > 1 || six > 1 {
		errs = append(errs, field.Invalid(path, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

// validateTaints checks keys, values and effects; a key may stand once per effect.
func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type pair struct {
		key    string
		effect corev1.TaintEffect
	}
	seen := map[pair]bool{}
	for i, t := range taints {
		at := path.Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		if bad := validation.IsValidLabelValue(t.Value); len(bad) > 0 {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, strings.Join(bad, ";")))
		}
		errs = append(errs, podspec.ValidateTaintEffect(t.Effect, false, at.Child("effect"))...)
		p := pair{t.Key, t.Effect}
		if seen[p] {
			dup := field.Duplicate(at, t)
			dup.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, dup)
		}
		seen[p] = true
	}
	return errs
}

// validateNodeUpdate lets a node's addresses in the pod network and its provider be set once, and never changed.
func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if len(old.Spec.PodCIDRs) > 0 && !apiequality.Semantic.DeepEqual(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(spec.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(spec.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	//lint:ignore SA1019 this is how a removed field is refused
	if n.Spec.ConfigSource != nil && old.Spec.ConfigSource == nil {
		errs = append(errs, field.Forbidden(spec.Child("configSource"), "configSource may not be set, it is no longer supported"))
	}
	return errs
}

// qualified says whether a name has a domain before a slash.
func qualified(name string) bool { return strings.Contains(name, "/") }
