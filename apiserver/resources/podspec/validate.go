package podspec

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/pkg/pod"
)

var (
	restartPolicies    = sets.New(corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	preemptionPolicies = sets.New(corev1.PreemptLowerPriority, corev1.PreemptNever)
	systems            = sets.New(corev1.Linux, corev1.Windows)
)

// ValidatePod checks a whole pod.
func ValidatePod(p *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateSpec(&p.Spec, spec)
	if p.ResourceVersion == "" && len(p.Spec.EphemeralContainers) > 0 { // it is new
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Mirror(p) && p.Spec.NodeName == "" {
		errs = append(errs, field.Required(annotation(pod.AnnotationMirror), "must set spec.nodeName if mirror pod annotation is set"))
	}
	eachContainerAt(&p.Spec, spec, func(c *corev1.Container, at *field.Path) {
		errs = append(errs, validateImageSpace(c.Image, at.Child("image"))...)
	})
	return errs
}

// ValidateTemplate checks a pod template at path.
func ValidateTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	meta, spec := path.Child("metadata"), path.Child("spec")
	errs := metav1validation.ValidateLabels(t.Labels, meta.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, meta.Child("annotations"))...)
	errs = append(errs, validateSpec(&t.Spec, spec)...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// validateSpec checks what pods and templates have in common.
func validateSpec(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(s.Volumes, path.Child("volumes"))
	errs = append(errs, validateContainers(s, volumes, path)...)
	errs = append(errs, validateEphemerals(s, volumes, path.Child("ephemeralContainers"))...)
	errs = append(errs, validateLife(s, path)...)
	errs = append(errs, validateNames(s, path)...)
	errs = append(errs, validateDNS(s, path)...)
	errs = append(errs, validatePlacement(s, path)...)
	errs = append(errs, validatePodSecurity(s, path)...)
	errs = append(errs, validateClaims(s.ResourceClaims, path.Child("resourceClaims"))...)
	if s.Resources != nil {
		errs = append(errs, validatePodRequirements(s.Resources, path.Child("resources"))...)
	}
	return errs
}

// validateLife checks how the pod begins and ends.
func validateLife(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	errs := oneOf(s.RestartPolicy, restartPolicies, path.Child("restartPolicy"))
	if s.ActiveDeadlineSeconds != nil {
		if v := *s.ActiveDeadlineSeconds; v < 1 || v > math.MaxInt32 {
			errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), v, validation.InclusiveRangeError(1, math.MaxInt32)))
		}
	}
	if s.TerminationGracePeriodSeconds != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*s.TerminationGracePeriodSeconds, path.Child("terminationGracePeriodSeconds"))...)
	}
	for i, g := range s.ReadinessGates {
		at := path.Child("readinessGates").Index(i).Child("conditionType")
		errs = append(errs, invalid(string(g.ConditionType), validation.IsQualifiedName(string(g.ConditionType)), at)...)
	}
	seen := sets.New[string]()
	for i, g := range s.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(g.Name, at)...)
		if seen.Has(g.Name) {
			errs = append(errs, field.Duplicate(at, g.Name))
		}
		seen.Insert(g.Name)
	}
	if s.NodeName != "" && len(s.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	if s.OS != nil {
		errs = append(errs, oneOf(s.OS.Name, systems, path.Child("os").Child("name"))...)
	}
	return errs
}

// validateNames checks everything by which the pod refers to other things.
func validateNames(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	subdomain := func(value, name string) {
		if value != "" {
			errs = append(errs, invalid(value, validation.IsDNS1123Subdomain(value), path.Child(name))...)
		}
	}
	subdomain(s.ServiceAccountName, "serviceAccountName")
	subdomain(s.NodeName, "nodeName")
	subdomain(s.PriorityClassName, "priorityClassName")
	if s.RuntimeClassName != nil {
		errs = append(errs, invalid(*s.RuntimeClassName, validation.IsDNS1123Subdomain(*s.RuntimeClassName), path.Child("runtimeClassName"))...)
	}
	if s.Hostname != "" {
		errs = append(errs, invalid(s.Hostname, validation.IsDNS1123Label(s.Hostname), path.Child("hostname"))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, invalid(s.Subdomain, validation.IsDNS1123Label(s.Subdomain), path.Child("subdomain"))...)
	}
	if o := s.HostnameOverride; o != nil {
		at := path.Child("hostnameOverride")
		errs = append(errs, invalid(*o, validation.IsDNS1123Subdomain(*o), at)...)
		if len(*o) > 64 {
			errs = append(errs, field.TooLong(at, *o, 64))
		}
		if s.HostNetwork {
			errs = append(errs, field.Forbidden(at, "may not be specified when `hostNetwork` is true"))
		}
		if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
			errs = append(errs, field.Forbidden(at, "may not be specified when `setHostnameAsFQDN` is true"))
		}
	}
	// An empty name in imagePullSecrets is warned of, not refused.
	if s.PreemptionPolicy != nil {
		errs = append(errs, oneOf(*s.PreemptionPolicy, preemptionPolicies, path.Child("preemptionPolicy"))...)
	}
	for name, q := range s.Overhead {
		at := path.Child("overhead").Key(string(name))
		errs = append(errs, validateResourceName(name, at)...)
		errs = append(errs, ValidateQuantity(name, q, at)...)
	}
	return errs
}

func validateClaims(claims []corev1.PodResourceClaim, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, c := range claims {
		at := path.Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if seen.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		} else {
			errs = append(errs, invalid(c.Name, validation.IsDNS1123Label(c.Name), at.Child("name"))...)
			seen.Insert(c.Name)
		}
		if (c.ResourceClaimName == nil) == (c.ResourceClaimTemplateName == nil) {
			errs = append(errs, field.Invalid(at, c, "must specify exactly one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
	}
	return errs
}

func annotation(key string) *field.Path { return field.NewPath("metadata", "annotations").Key(key) }

// eachContainerAt walks init containers and containers with their paths.
func eachContainerAt(s *corev1.PodSpec, path *field.Path, f func(*corev1.Container, *field.Path)) {
	for i := range s.InitContainers {
		f(&s.InitContainers[i], path.Child("initContainers").Index(i))
	}
	for i := range s.Containers {
		f(&s.Containers[i], path.Child("containers").Index(i))
	}
}

// oneOf checks a word that must be set and known.
func oneOf[T ~string](value T, known sets.Set[T], path *field.Path) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "")}
	case !known.Has(value):
		return field.ErrorList{field.NotSupported(path, value, sets.List(known))}
	}
	return nil
}

// oneOfIfSet checks a word that may be left out.
func oneOfIfSet[T ~string](value *T, known sets.Set[T], path *field.Path) field.ErrorList {
	if value == nil || known.Has(*value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, *value, sets.List(known))}
}

// invalid makes errors of the messages a check of the validation package returned.
func invalid(value any, messages []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range messages {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// required checks that a text is there.
func required(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}
