package podspec

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
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
	errs = append(errs, validateAnnotations(p.Annotations, &p.Spec, field.NewPath("metadata", "annotations"))...)
	errs = append(errs, validateMadeNames(p, spec)...)
	eachContainerAt(&p.Spec, spec, func(c *corev1.Container, at *field.Path) {
		errs = append(errs, validateImageSpace(c.Image, at.Child("image"))...)
	})
	return errs
}

// ValidateTemplate checks a pod template at path.
func ValidateTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	// Not below metadata: so users of Kubernetes know these paths.
	labels, annotations, spec := path.Child("labels"), path.Child("annotations"), path.Child("spec")
	errs := metav1validation.ValidateLabels(t.Labels, labels)
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, annotations)...)
	errs = append(errs, validateAnnotations(t.Annotations, &t.Spec, annotations)...)
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
	errs = append(errs, validateHostProcess(s, path)...)
	errs = append(errs, validateOS(s, path)...)
	errs = append(errs, validateGroup(s, path)...)
	if s.Resources != nil {
		errs = append(errs, validatePodRequirements(s.Resources, path.Child("resources"))...)
		errs = append(errs, validateShares(s, path)...)
	}
	return errs
}

// validateMadeNames checks what will be named after the pod, and what only a pod can be asked.
func validateMadeNames(p *corev1.Pod, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range p.Spec.Volumes {
		v, at := &p.Spec.Volumes[i], spec.Child("volumes").Index(i)
		if v.Ephemeral != nil && p.Name != "" && v.Name != "" {
			claim := p.Name + "-" + v.Name
			for _, msg := range validation.IsDNS1123Subdomain(claim) {
				errs = append(errs, field.Invalid(at.Child("name"), v.Name, fmt.Sprintf("PVC name %q: %v", claim, msg)))
			}
		}
		if v.Projected == nil || p.Spec.ServiceAccountName != "" {
			continue
		}
		for j := range v.Projected.Sources {
			if v.Projected.Sources[j].ServiceAccountToken != nil {
				errs = append(errs, field.Forbidden(at.Child("projected", "sources").Index(j).Child("serviceAccountToken"), "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	for i, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimTemplateName == nil || p.Name == "" || c.Name == "" {
			continue
		}
		claim := p.Name + "-" + c.Name
		for _, msg := range validation.IsDNS1123Subdomain(claim) {
			errs = append(errs, field.Invalid(spec.Child("resourceClaims").Index(i).Child("name"), c.Name, fmt.Sprintf("final ResourceClaim name: %s: %v", claim, msg)))
		}
	}
	return errs
}

// validateShares checks that containers together ask for no more than the pod, and that none may use more.
func validateShares(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	containers := *s
	containers.Resources = nil
	asked := pod.SpecRequests(&corev1.Pod{Spec: containers})
	for _, name := range sets.List(sets.KeySet(asked)) {
		all, want := s.Resources.Requests[name], asked[name]
		if podLevel(name) && want.Cmp(all) > 0 {
			errs = append(errs, field.Invalid(path.Child("resources", "requests").Key(string(name)), all.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", want.String())))
		}
	}
	for i := range s.Containers {
		for _, name := range sets.List(sets.KeySet(s.Containers[i].Resources.Limits)) {
			limit := s.Containers[i].Resources.Limits[name]
			if most, ok := s.Resources.Limits[name]; ok && limit.Cmp(most) > 0 {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Child("resources", "limits").Key(string(name)), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", most.String())))
			}
		}
	}
	return errs
}

const (
	mostResponders    = 10
	highestResponder  = 100_000
	reservedResponder = 1000 // priorities below are those of Kubernetes' own
)

// validateGroup checks the group that the pod is scheduled with, and who is asked before it is evicted.
func validateGroup(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if g := s.SchedulingGroup; g != nil {
		at := path.Child("schedulingGroup")
		if g.PodGroupName == nil {
			errs = append(errs, field.Invalid(at, "", "must specify one of: `podGroupName`"))
		} else {
			errs = append(errs, registry.Invalid(*g.PodGroupName, validation.IsDNS1123Subdomain(*g.PodGroupName), at.Child("podGroupName"))...)
		}
	}
	at := path.Child("evictionResponders")
	if n := len(s.EvictionResponders); n > mostResponders {
		errs = append(errs, field.TooMany(at, n, mostResponders))
	}
	if len(s.EvictionResponders) > 0 && s.SchedulingGroup != nil {
		errs = append(errs, field.Forbidden(at, "may not be specified when `schedulingGroup` is set"))
	}
	seen := sets.New[string]()
	for i, r := range s.EvictionResponders {
		at := at.Index(i)
		domain, _, prefixed := strings.Cut(r.Name, "/")
		switch {
		case r.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case !prefixed:
			errs = append(errs, field.Invalid(at.Child("name"), r.Name, "must be a domain-prefixed key (such as \"acme.io/foo\")"))
		default:
			errs = append(errs, registry.Invalid(r.Name, validation.IsQualifiedName(r.Name), at.Child("name"))...)
		}
		if seen.Has(r.Name) {
			errs = append(errs, field.Duplicate(at, r.Name))
		}
		seen.Insert(r.Name)
		switch own := strings.HasSuffix("."+domain, ".k8s.io"); {
		case r.Priority == nil:
			errs = append(errs, field.Required(at.Child("priority"), ""))
		case *r.Priority < 0 || *r.Priority > highestResponder:
			errs = append(errs, field.Invalid(at.Child("priority"), *r.Priority, validation.InclusiveRangeError(0, highestResponder)))
		case *r.Priority < reservedResponder && !own:
			errs = append(errs, field.Invalid(at.Child("priority"), *r.Priority, "0-999 is reserved for responders with *.k8s.io suffix"))
		}
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
	if s.TerminationGracePeriodSeconds == nil { // a negative one is warned of
		errs = append(errs, field.Required(path.Child("terminationGracePeriodSeconds"), ""))
	}
	for i, g := range s.ReadinessGates {
		at := path.Child("readinessGates").Index(i).Child("conditionType")
		errs = append(errs, registry.Invalid(string(g.ConditionType), validation.IsQualifiedName(string(g.ConditionType)), at)...)
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
	return errs
}

// validateNames checks everything by which the pod refers to other things.
func validateNames(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	subdomain := func(value, name string) {
		if value != "" {
			errs = append(errs, registry.Invalid(value, validation.IsDNS1123Subdomain(value), path.Child(name))...)
		}
	}
	subdomain(s.ServiceAccountName, "serviceAccountName")
	subdomain(s.NodeName, "nodeName")
	subdomain(s.PriorityClassName, "priorityClassName")
	if s.RuntimeClassName != nil {
		errs = append(errs, registry.Invalid(*s.RuntimeClassName, validation.IsDNS1123Subdomain(*s.RuntimeClassName), path.Child("runtimeClassName"))...)
	}
	if s.Hostname != "" {
		errs = append(errs, registry.Invalid(s.Hostname, validation.IsDNS1123Label(s.Hostname), path.Child("hostname"))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, registry.Invalid(s.Subdomain, validation.IsDNS1123Label(s.Subdomain), path.Child("subdomain"))...)
	}
	if o := s.HostnameOverride; o != nil {
		at := path.Child("hostnameOverride")
		errs = append(errs, registry.Invalid(*o, validation.IsDNS1123Subdomain(*o), at)...)
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
			errs = append(errs, registry.Invalid(c.Name, validation.IsDNS1123Label(c.Name), at.Child("name"))...)
			seen.Insert(c.Name)
		}
		switch of, template := c.ResourceClaimName, c.ResourceClaimTemplateName; {
		case of != nil && template != nil:
			errs = append(errs, field.Invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case of != nil:
			errs = append(errs, registry.Invalid(*of, validation.IsDNS1123Subdomain(*of), at.Child("resourceClaimName"))...)
		case template != nil:
			errs = append(errs, registry.Invalid(*template, validation.IsDNS1123Subdomain(*template), at.Child("resourceClaimTemplateName"))...)
		default:
			errs = append(errs, field.Invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
	}
	return errs
}

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

// required checks that a text is there.
func required(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}
