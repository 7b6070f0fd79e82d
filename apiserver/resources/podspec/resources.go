package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

var containerResources = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage)

// standardResources are the names without a domain, of containers, volumes and quotas, that are known.
var standardResources = containerResources.Union(sets.New(corev1.ResourceStorage, corev1.ResourceRequestsStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
	corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets,
	corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers))

// ValidateAnyResource checks the name of a resource: of a known one, or with a domain before it.
func ValidateAnyResource(name corev1.ResourceName, path *field.Path) field.ErrorList {
	text := string(name)
	if bad := validation.IsQualifiedName(text); len(bad) > 0 {
		return registry.Invalid(text, bad, path)
	}
	known := standardResources.Has(name) || hugePages(name) || strings.HasPrefix(text, corev1.ResourceRequestsHugePagesPrefix)
	if !strings.Contains(text, "/") && !known {
		return field.ErrorList{field.Invalid(path, text, "must be a standard resource type or fully qualified")}
	}
	return nil
}

func hugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// native says whether a name is ours: without a domain, or with kubernetes.io.
func native(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// Overcommits says whether more of a resource may be promised than there is.
func Overcommits(name corev1.ResourceName) bool { return native(name) && !hugePages(name) }

// extended says whether a name can be one that a node's vendor made up.
func extended(name corev1.ResourceName) bool {
	if native(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	// In quotas the name is written with this prefix, so both must fit.
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// podLevel says whether a pod as a whole may ask for the resource.
func podLevel(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || hugePages(name)
}

// ValidateResourceName checks the name of something that a container can ask for.
func ValidateResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	return validateResourceName(name, path)
}

func validateResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	text := string(name)
	if bad := validation.IsQualifiedName(text); len(bad) > 0 {
		return registry.Invalid(text, bad, path)
	}
	switch {
	case !strings.Contains(text, "/"):
		errs := ValidateAnyResource(name, path)
		if !containerResources.Has(name) && !hugePages(name) {
			errs = append(errs, field.Invalid(path, text, "must be a standard resource for containers"))
		}
		return errs
	case !native(name) && !extended(name):
		return field.ErrorList{field.Invalid(path, text, "doesn't follow extended resource name standard")}
	}
	return nil
}

// ValidateQuantity checks an amount of a resource: not negative, and whole where halves make no sense.
func ValidateQuantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, q.String(), "must be greater than or equal to 0")}
	}
	whole := extended(name) || hugePages(name) || name == corev1.ResourcePods
	if whole && q.MilliValue()%1000 != 0 {
		return field.ErrorList{field.Invalid(path, q.String(), "must be an integer")}
	}
	if size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix)); hugePages(name) && err == nil && size.Sign() > 0 && q.Value()%size.Value() != 0 {
		return field.ErrorList{field.Invalid(path, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))}
	}
	return nil
}

// validateRequirements checks what a container asks for and may use.
func validateRequirements(r *corev1.ResourceRequirements, claims sets.Set[string], path *field.Path) field.ErrorList {
	errs := validateAmounts(r, validateResourceName, path)
	seen := sets.New[string]()
	for i, c := range r.Claims {
		at := path.Child("claims").Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		key := c.Name
		if c.Request != "" {
			key += "/" + c.Request
		}
		if seen.Has(key) {
			errs = append(errs, field.Duplicate(at, key))
		}
		seen.Insert(key)
		if !claims.Has(c.Name) {
			missing := field.NotFound(at, c.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims"
			if len(claims) == 0 {
				missing.Detail += " which is empty"
			}
			errs = append(errs, missing)
		}
	}
	return errs
}

// validatePodRequirements checks what the pod as a whole asks for and may use.
func validatePodRequirements(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	errs := validateAmounts(r, func(name corev1.ResourceName, at *field.Path) field.ErrorList {
		if podLevel(name) {
			return nil
		}
		return field.ErrorList{field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceHugePagesPrefix + "*", corev1.ResourceMemory})}
	}, path)
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims cannot be set for Resources at pod-level"))
	}
	return errs
}

func validateAmounts(r *corev1.ResourceRequirements, nameOK func(corev1.ResourceName, *field.Path) field.ErrorList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	huge, sized := false, false
	for _, name := range sets.List(sets.KeySet(r.Limits)) {
		q, at := r.Limits[name], limits.Key(string(name))
		errs = append(errs, nameOK(name, at)...)
		errs = append(errs, ValidateQuantity(name, q, at)...)
		huge, sized = huge || hugePages(name), sized || !hugePages(name)
	}
	for _, name := range sets.List(sets.KeySet(r.Requests)) {
		q, at := r.Requests[name], requests.Key(string(name))
		errs = append(errs, nameOK(name, at)...)
		errs = append(errs, ValidateQuantity(name, q, at)...)
		huge, sized = huge || hugePages(name), sized || !hugePages(name)
		// What cannot be overcommitted must be asked for as it will be used.
		exact := hugePages(name) || extended(name)
		limit, limited := r.Limits[name]
		switch {
		case limited && exact && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && exact:
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
	}
	if huge && !sized {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}
