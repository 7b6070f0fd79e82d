package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodStatus checks what a kubelet, or somebody else, says of a pod.
func validatePodStatus(p, old *corev1.Pod) field.ErrorList {
	status, s := field.NewPath("status"), &p.Status
	var errs field.ErrorList
	for i, c := range s.Conditions { // the path that users of Kubernetes know
		errs = append(errs, validateQualified(string(c.Type), field.NewPath("metadata", "conditions").Index(i).Child("Type"))...)
	}
	if n := s.NominatedNodeName; n != "" && n != old.Status.NominatedNodeName {
		for _, msg := range validation.IsDNS1123Subdomain(n) {
			errs = append(errs, field.Invalid(status.Child("nominatedNodeName"), n, msg))
		}
	}
	if old.Status.QOSClass != "" {
		errs = append(errs, apivalidation.ValidateImmutableField(s.QOSClass, old.Status.QOSClass, status.Child("qosClass"))...)
	}
	errs = append(errs, validateStates(s.ContainerStatuses, old.Status.ContainerStatuses, old.Spec.Containers, &old.Spec, status.Child("containerStatuses"))...)
	errs = append(errs, validateStates(s.InitContainerStatuses, old.Status.InitContainerStatuses, old.Spec.InitContainers, &old.Spec, status.Child("initContainerStatuses"))...)
	errs = append(errs, validateStates(s.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, nil, nil, status.Child("ephemeralContainerStatuses"))...)
	errs = append(errs, validateClaimStatuses(p, status.Child("resourceClaimStatuses"))...)
	var ips, hosts []string
	for _, ip := range s.PodIPs {
		ips = append(ips, ip.IP)
	}
	for _, ip := range s.HostIPs {
		hosts = append(hosts, ip.IP)
	}
	errs = append(errs, validateIPs(ips, status.Child("podIPs"))...)
	if len(hosts) > 0 && s.HostIP != hosts[0] {
		errs = append(errs, field.Invalid(status.Child("hostIPs").Index(0).Child("ip"), hosts[0], "must be equal to `hostIP`"))
	}
	return append(errs, validateIPs(hosts, status.Child("hostIPs"))...)
}

// validateStates checks the states of containers for themselves, and that none that is over for good runs again. of are the
// containers as the spec of the pod has them; nil for containers that are never started again.
func validateStates(all, old []corev1.ContainerStatus, of []corev1.Container, s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range all {
		set := 0
		for _, is := range []bool{all[i].State.Waiting != nil, all[i].State.Running != nil, all[i].State.Terminated != nil} {
			if is {
				set++
			}
		}
		if set > 1 {
			errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may have only one of waiting, running and terminated"))
		}
	}
	for i := range old {
		was := old[i].State.Terminated
		if was == nil || s != nil && restarts(old[i].Name, was, of, s) {
			continue
		}
		for j := range all {
			if all[j].Name == old[i].Name && all[j].State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

// restarts says whether a container that ended so may be started again.
func restarts(name string, t *corev1.ContainerStateTerminated, of []corev1.Container, s *corev1.PodSpec) bool {
	policy := s.RestartPolicy
	for i := range of {
		c := &of[i]
		if len(c.RestartPolicyRules) > 0 {
			return true // they may start this one, or all of the pod's
		}
		if c.Name == name && c.RestartPolicy != nil {
			policy = corev1.RestartPolicy(*c.RestartPolicy)
		}
	}
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && t.ExitCode != 0
}

func validateClaimStatuses(p *corev1.Pod, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, c := range p.Status.ResourceClaimStatuses {
		at := path.Index(i).Child("name")
		if !slices.ContainsFunc(p.Spec.ResourceClaims, func(of corev1.PodResourceClaim) bool { return of.Name == c.Name }) {
			errs = append(errs, field.Invalid(at, c.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if seen.Has(c.Name) {
			errs = append(errs, field.Duplicate(at, c.Name))
		}
		seen.Insert(c.Name)
		if c.ResourceClaimName != nil {
			for _, msg := range validation.IsDNS1123Subdomain(*c.ResourceClaimName) {
				errs = append(errs, field.Invalid(at, *c.ResourceClaimName, msg))
			}
		}
	}
	return errs
}

// validateIPs checks addresses of one thing: at most one of each family.
func validateIPs(ips []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	four, six := 0, 0
	for i, text := range ips {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Index(i), text, true, nil)...)
		if slices.Contains(ips[:i], text) {
			errs = append(errs, field.Duplicate(path.Index(i), text))
		}
		if ip, err := netip.ParseAddr(text); err == nil && ip.Is6() {
			six++
		} else {
			four++
		}
	}
	if four > 1 || six > 1 {
		errs = append(errs, field.Invalid(path, ips, "may specify no more than one IP for each IP family"))
	}
	return errs
}
