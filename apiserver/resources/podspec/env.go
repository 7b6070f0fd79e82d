package podspec

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

var (
	envFields = sets.New("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs")
	volumeFields      = sets.New("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")
	containerAmounts  = sets.New("limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage")
	hugePageAmountPre = []string{"limits." + corev1.ResourceHugePagesPrefix, "requests." + corev1.ResourceHugePagesPrefix}
)

func validateEnv(vars []corev1.EnvVar, volumes map[string]*corev1.Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range vars {
		v, at := &vars[i], at.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, registry.Invalid(v.Name, validation.IsRelaxedEnvVarName(v.Name), at.Child("name"))...)
		}
		if v.ValueFrom != nil {
			errs = append(errs, validateEnvSource(v, volumes, at.Child("valueFrom"))...)
		}
	}
	return errs
}

func validateEnvSource(v *corev1.EnvVar, volumes map[string]*corev1.Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	from, set := v.ValueFrom, 0
	if f := from.FieldRef; f != nil {
		set++
		errs = append(errs, validateFieldRef(f, envFields, at.Child("fieldRef"))...)
	}
	if f := from.ResourceFieldRef; f != nil {
		set++
		errs = append(errs, validateAmountRef(f, at.Child("resourceFieldRef"), false)...)
	}
	if k := from.ConfigMapKeyRef; k != nil {
		set++
		errs = append(errs, validateKeyRef(k.Name, k.Key, at.Child("configMapKeyRef"))...)
	}
	if k := from.SecretKeyRef; k != nil {
		set++
		errs = append(errs, validateKeyRef(k.Name, k.Key, at.Child("secretKeyRef"))...)
	}
	if k := from.FileKeyRef; k != nil {
		set++
		errs = append(errs, validateFileKey(k, volumes, at.Child("fileKeyRef"))...)
	}
	switch {
	case set == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case set > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

// validateFieldRef checks a field of the pod itself: one of allowed, or an entry of its labels or annotations.
func validateFieldRef(f *corev1.ObjectFieldSelector, allowed sets.Set[string], at *field.Path) field.ErrorList {
	if f.APIVersion == "" {
		return field.ErrorList{field.Required(at.Child("apiVersion"), "")}
	}
	if f.FieldPath == "" {
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	if f.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), f.FieldPath, "error converting fieldPath: unsupported pod version: "+f.APIVersion)}
	}
	if bag, key, ok := entry(f.FieldPath); ok {
		switch bag {
		case "metadata.annotations":
			return registry.Invalid(key, validation.IsQualifiedName(strings.ToLower(key)), at)
		case "metadata.labels":
			return registry.Invalid(key, validation.IsQualifiedName(key), at)
		}
		return field.ErrorList{field.Invalid(at, f.FieldPath, fmt.Sprintf("%s does not support subscript", bag))}
	}
	if known := sets.New("spec.restartPolicy", "spec.schedulerName", "spec.hostNetwork", "status.phase", "metadata.labels", "metadata.annotations").Union(envFields); !known.Has(f.FieldPath) {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), f.FieldPath, "error converting fieldPath: field label not supported: "+f.FieldPath)}
	}
	if !allowed.Has(f.FieldPath) {
		return field.ErrorList{field.NotSupported(at.Child("fieldPath"), f.FieldPath, sets.List(allowed))}
	}
	return nil
}

// entry splits metadata.labels['key'].
func entry(fieldPath string) (bag, key string, ok bool) {
	bag, rest, ok := strings.Cut(fieldPath, "['")
	if !ok || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return bag, strings.TrimSuffix(rest, "']"), true
}

// validateAmountRef checks a reference to requests or limits; a volume must say of which container.
func validateAmountRef(f *corev1.ResourceFieldSelector, at *field.Path, inVolume bool) field.ErrorList {
	if inVolume && f.ContainerName == "" {
		return field.ErrorList{field.Required(at.Child("containerName"), "")}
	}
	if f.Resource == "" {
		return field.ErrorList{field.Required(at.Child("resource"), "")}
	}
	known := containerAmounts.Has(f.Resource)
	for _, prefix := range hugePageAmountPre {
		known = known || strings.HasPrefix(f.Resource, prefix)
	}
	if !known {
		return field.ErrorList{field.NotSupported(at.Child("resource"), f.Resource, sets.List(containerAmounts))}
	}
	divisors := map[string][]string{
		"cpu":               {"1m", "1"},
		"memory":            {"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
		"ephemeral-storage": {"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
	}
	_, what, _ := strings.Cut(f.Resource, ".")
	if allowed, ok := divisors[what]; ok && !f.Divisor.IsZero() && !sets.New(allowed...).Has(f.Divisor.String()) {
		return field.ErrorList{field.Invalid(at.Child("divisor"), f.Divisor.String(),
			fmt.Sprintf("only divisor's values %s are supported with the %s resource", strings.Join(allowed, ", "), what))}
	}
	return nil
}

func validateKeyRef(name, key string, at *field.Path) field.ErrorList {
	errs := required(name, at.Child("name"))
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	return append(errs, registry.Invalid(key, validation.IsConfigMapKey(key), at.Child("key"))...)
}

func validateFileKey(k *corev1.FileKeySelector, volumes map[string]*corev1.Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if k.Key == "" {
		errs = append(errs, field.Required(at.Child("key"), ""))
	} else {
		errs = append(errs, registry.Invalid(k.Key, validation.IsEnvVarName(k.Key), at.Child("key"))...)
	}
	switch v := volumes[k.VolumeName]; {
	case k.VolumeName == "":
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	case v == nil:
		errs = append(errs, field.NotFound(at.Child("volumeName"), k.VolumeName))
	case v.EmptyDir == nil:
		errs = append(errs, field.Invalid(at.Child("volumeName"), k.VolumeName, "referenced volume must be of type emptyDir"))
	}
	if k.Path == "" {
		return append(errs, field.Required(at.Child("path"), ""))
	}
	return append(errs, validateInside(k.Path, at.Child("path"))...)
}

func validateObjectName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return registry.Invalid(name, apivalidation.NameIsDNSSubdomain(name, true), at)
}

func validateEnvFrom(sources []corev1.EnvFromSource, list *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range sources {
		at, set := list.Index(i), 0
		if s.Prefix != "" {
			errs = append(errs, registry.Invalid(s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix), at.Child("prefix"))...)
		}
		if s.ConfigMapRef != nil {
			set++
			errs = append(errs, validateObjectName(s.ConfigMapRef.Name, at.Child("configMapRef").Child("name"))...)
		}
		if s.SecretRef != nil {
			set++
			errs = append(errs, validateObjectName(s.SecretRef.Name, at.Child("secretRef").Child("name"))...)
		}
		switch set {
		case 0:
			errs = append(errs, field.Invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"))
		case 2:
			errs = append(errs, field.Invalid(list, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// validateInside checks a path that must stay below where it is put.
func validateInside(p string, at *field.Path) field.ErrorList {
	if path.IsAbs(p) {
		return field.ErrorList{field.Invalid(at, p, "must be a relative path")}
	}
	return validateNoDotDot(p, at)
}

func validateNoDotDot(p string, at *field.Path) field.ErrorList {
	for _, part := range strings.Split(p, "/") {
		if part == ".." {
			return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
		}
	}
	return nil
}
