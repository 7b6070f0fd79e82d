package podspec

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

var (
	hostPathTypes = sets.New(corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
		corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)
	volumeModes = sets.New(corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	accessModes = sets.New(corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)
)

// validateVolumes checks the volumes and returns the ones with good names by name, for mounts to refer to.
func validateVolumes(volumes []corev1.Volume, at *field.Path) (map[string]*corev1.Volume, field.ErrorList) {
	var errs field.ErrorList
	byName := make(map[string]*corev1.Volume, len(volumes))
	for i := range volumes {
		v, at := &volumes[i], at.Index(i)
		bad := validateSource(&v.VolumeSource, v.Name, at)
		if v.Name == "" {
			bad = append(bad, field.Required(at.Child("name"), ""))
		} else {
			bad = append(bad, registry.Invalid(v.Name, validation.IsDNS1123Label(v.Name), at.Child("name"))...)
		}
		if byName[v.Name] != nil {
			bad = append(bad, field.Duplicate(at.Child("name"), v.Name))
		}
		errs = append(errs, bad...)
		byName[v.Name] = v
	}
	return byName, errs
}

// validateSource checks that a volume has exactly one source, and that one.
func validateSource(s *corev1.VolumeSource, name string, at *field.Path) field.ErrorList {
	set := setFields(s)
	if len(set) == 0 {
		return field.ErrorList{field.Required(at, "must specify a volume type")}
	}
	var errs field.ErrorList
	for _, extra := range set[1:] {
		errs = append(errs, field.Forbidden(at.Child(extra), "may not specify more than 1 volume type"))
	}
	at = at.Child(set[0])
	switch set[0] {
	case "emptyDir":
		if q := s.EmptyDir.SizeLimit; q != nil && q.Sign() < 0 {
			errs = append(errs, field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
		if m := s.EmptyDir.Mode; m != nil && (*m < 0 || *m > 0o1777) {
			errs = append(errs, field.Invalid(at.Child("mode"), *m, "must be a number between 0 and 01777 (octal), both inclusive"))
		}
	case "hostPath":
		if s.HostPath.Path == "" {
			return append(errs, field.Required(at.Child("path"), ""))
		}
		errs = append(errs, validateNoDotDot(s.HostPath.Path, at.Child("path"))...)
		errs = append(errs, oneOfIfSet(s.HostPath.Type, hostPathTypes, at.Child("type"))...)
	case "secret":
		errs = append(errs, required(s.Secret.SecretName, at.Child("secretName"))...)
		errs = append(errs, validateMode(s.Secret.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateID(s.Secret.DefaultUser, validation.IsValidUserID, at.Child("defaultUser"))...)
		errs = append(errs, validateItems(s.Secret.Items, at.Child("items"))...)
	case "configMap":
		errs = append(errs, required(s.ConfigMap.Name, at.Child("name"))...)
		errs = append(errs, validateMode(s.ConfigMap.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateID(s.ConfigMap.DefaultUser, validation.IsValidUserID, at.Child("defaultUser"))...)
		errs = append(errs, validateItems(s.ConfigMap.Items, at.Child("items"))...)
	case "downwardAPI":
		errs = append(errs, validateMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateID(s.DownwardAPI.DefaultUser, validation.IsValidUserID, at.Child("defaultUser"))...)
		for i := range s.DownwardAPI.Items {
			errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[i], at)...)
		}
	case "projected":
		errs = append(errs, validateMode(s.Projected.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateID(s.Projected.DefaultUser, validation.IsValidUserID, at.Child("defaultUser"))...)
		errs = append(errs, validateProjections(s.Projected.Sources, at)...)
	case "persistentVolumeClaim":
		errs = append(errs, required(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))...)
	case "csi":
		errs = append(errs, validateDriver(s.CSI.Driver, at.Child("driver"))...)
		errs = append(errs, validateSecretRef(s.CSI.NodePublishSecretRef, at.Child("nodePublishSecretRef"))...)
	case "ephemeral":
		errs = append(errs, validateClaimTemplate(s.Ephemeral.VolumeClaimTemplate, at.Child("volumeClaimTemplate"))...)
	case "image":
		errs = append(errs, required(s.Image.Reference, at.Child("reference"))...)
		errs = append(errs, oneOf(s.Image.PullPolicy, pullPolicies, at.Child("pullPolicy"))...)
	default:
		errs = append(errs, validateNetworkSource(s, at)...)
	}
	return errs
}

// setFields are the names of the sources that are set, in the order of the type.
func setFields(s *corev1.VolumeSource) []string {
	var names []string
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

func validateSecretRef(r *corev1.LocalObjectReference, at *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	return required(r.Name, at.Child("name"))
}

func validateMode(mode *int32, at *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		return field.ErrorList{field.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

func validateItems(items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := at.Index(i)
		errs = append(errs, required(item.Key, at.Child("key"))...)
		errs = append(errs, validateFilePath(item.Path, at.Child("path"))...)
		errs = append(errs, validateMode(item.Mode, at.Child("mode"))...)
		errs = append(errs, validateID(item.User, validation.IsValidUserID, at.Child("user"))...)
	}
	return errs
}

// validateFilePath checks where in a volume a file is to be put. Names that begin with two dots are the kubelet's own.
func validateFilePath(p string, at *field.Path) field.ErrorList {
	if p == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := validateInside(p, at)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") && p != ".." {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}

func validateDownwardFile(f *corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	errs := validateFilePath(f.Path, at.Child("path"))
	switch {
	case f.FieldRef != nil:
		errs = append(errs, validateFieldRef(f.FieldRef, volumeFields, at.Child("fieldRef"))...)
		if f.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case f.ResourceFieldRef != nil:
		errs = append(errs, validateAmountRef(f.ResourceFieldRef, at.Child("resourceFieldRef"), true)...)
	default:
		errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
	}
	errs = append(errs, validateID(f.User, validation.IsValidUserID, at.Child("user"))...)
	return append(errs, validateMode(f.Mode, at.Child("mode"))...)
}

func validateDriver(driver string, at *field.Path) field.ErrorList {
	if driver == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(driver) > 63 {
		return field.ErrorList{field.TooLong(at, driver, 63)}
	}
	return registry.Invalid(driver, validation.IsDNS1123Subdomain(strings.ToLower(driver)), at)
}

func validateClaimTemplate(t *corev1.PersistentVolumeClaimTemplate, at *field.Path) field.ErrorList {
	if t == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	meta := at.Child("metadata")
	errs := metav1validation.ValidateLabels(t.Labels, meta.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, meta.Child("annotations"))...)
	errs = append(errs, forbidClaimMeta(&t.ObjectMeta, meta)...)
	return append(errs, ValidateClaimSpec(&t.Spec, at.Child("spec"))...)
}
