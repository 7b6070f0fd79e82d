package podspec

import (
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	hostPathTypes = sets.New(corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
		corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)
	volumeModes = sets.New(corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	accessModes = sets.New(corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)
	keyTypes    = sets.New("ED25519", "ECDSAP256", "ECDSAP384", "ECDSAP521", "RSA3072", "RSA4096")
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
			bad = append(bad, invalid(v.Name, validation.IsDNS1123Label(v.Name), at.Child("name"))...)
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
	case "hostPath":
		errs = append(errs, required(s.HostPath.Path, at.Child("path"))...)
		errs = append(errs, validateNoDotDot(s.HostPath.Path, at.Child("path"))...)
		errs = append(errs, oneOfIfSet(s.HostPath.Type, hostPathTypes, at.Child("type"))...)
	case "secret":
		errs = append(errs, required(s.Secret.SecretName, at.Child("secretName"))...)
		errs = append(errs, validateMode(s.Secret.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateItems(s.Secret.Items, at.Child("items"))...)
	case "configMap":
		errs = append(errs, required(s.ConfigMap.Name, at.Child("name"))...)
		errs = append(errs, validateMode(s.ConfigMap.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateItems(s.ConfigMap.Items, at.Child("items"))...)
	case "downwardAPI":
		errs = append(errs, validateMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))...)
		for i := range s.DownwardAPI.Items {
			errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[i], at)...)
		}
	case "projected":
		errs = append(errs, validateMode(s.Projected.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateProjections(s.Projected.Sources, at)...)
	case "persistentVolumeClaim":
		errs = append(errs, required(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))...)
	case "csi":
		errs = append(errs, validateDriver(s.CSI.Driver, at.Child("driver"))...)
		if r := s.CSI.NodePublishSecretRef; r != nil {
			errs = append(errs, required(r.Name, at.Child("nodePublishSecretRef").Child("name"))...)
		}
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
	return append(errs, validateMode(f.Mode, at.Child("mode"))...)
}

func validateProjections(sources []corev1.VolumeProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := sets.New[string]()
	place := func(p string, at *field.Path) {
		if p != "" && paths.Has(p) {
			errs = append(errs, field.Invalid(at, p, "conflicting duplicate paths"))
		}
		paths.Insert(p)
	}
	for i := range sources {
		s, at := &sources[i], at.Child("sources").Index(i)
		var set []string
		if s.Secret != nil {
			set = append(set, "secret")
			errs = append(errs, required(s.Secret.Name, at.Child("secret").Child("name"))...)
			errs = append(errs, validateItems(s.Secret.Items, at.Child("secret").Child("items"))...)
			for j, item := range s.Secret.Items {
				place(item.Path, at.Child("secret").Child("items").Index(j).Child("path"))
			}
		}
		if s.ConfigMap != nil {
			set = append(set, "configMap")
			errs = append(errs, required(s.ConfigMap.Name, at.Child("configMap").Child("name"))...)
			errs = append(errs, validateItems(s.ConfigMap.Items, at.Child("configMap").Child("items"))...)
			for j, item := range s.ConfigMap.Items {
				place(item.Path, at.Child("configMap").Child("items").Index(j).Child("path"))
			}
		}
		if s.DownwardAPI != nil {
			set = append(set, "downwardAPI")
			for j := range s.DownwardAPI.Items {
				errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[j], at.Child("downwardAPI"))...)
				place(s.DownwardAPI.Items[j].Path, at.Child("downwardAPI").Child("items").Index(j).Child("path"))
			}
		}
		if t := s.ServiceAccountToken; t != nil {
			set = append(set, "serviceAccountToken")
			errs = append(errs, validateTokenProjection(t, at.Child("serviceAccountToken"))...)
			place(t.Path, at.Child("serviceAccountToken").Child("path"))
		}
		if b := s.ClusterTrustBundle; b != nil {
			set = append(set, "clusterTrustBundle")
			errs = append(errs, validateTrustBundle(b, at.Child("clusterTrustBundle"))...)
			place(b.Path, at.Child("clusterTrustBundle").Child("path"))
		}
		if c := s.PodCertificate; c != nil {
			set = append(set, "podCertificate")
			errs = append(errs, required(c.SignerName, at.Child("podCertificate").Child("signerName"))...)
			if !keyTypes.Has(c.KeyType) {
				errs = append(errs, field.NotSupported(at.Child("podCertificate").Child("keyType"), c.KeyType, sets.List(keyTypes)))
			}
		}
		if len(set) == 0 {
			errs = append(errs, field.Required(at, "a projected source must be specified"))
			continue
		}
		for _, extra := range set[1:] {
			errs = append(errs, field.Forbidden(at.Child(extra), "may not specify more than 1 volume type"))
		}
	}
	return errs
}

func validateTokenProjection(t *corev1.ServiceAccountTokenProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	expiry := at.Child("expirationSeconds")
	switch s := t.ExpirationSeconds; {
	case s == nil:
		errs = append(errs, field.Required(expiry, ""))
	case *s < 10*60:
		errs = append(errs, field.Invalid(expiry, *s, "may not specify a duration less than 10 minutes"))
	case *s > 1<<32:
		errs = append(errs, field.Invalid(expiry, *s, "may not specify a duration larger than 2^32 seconds"))
	}
	if t.Path == "" {
		return append(errs, field.Required(at.Child("path"), ""))
	}
	return append(errs, validateFilePath(t.Path, at.Child("path"))...)
}

func validateTrustBundle(b *corev1.ClusterTrustBundleProjection, at *field.Path) field.ErrorList {
	errs := validateFilePath(b.Path, at.Child("path"))
	switch {
	case (b.Name == nil) == (b.SignerName == nil):
		errs = append(errs, field.Invalid(at, b, "either name or signerName must be specified"))
	case b.Name != nil && b.LabelSelector != nil:
		errs = append(errs, field.Invalid(at.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified"))
	case b.LabelSelector != nil:
		errs = append(errs, metav1validation.ValidateLabelSelector(b.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	}
	return errs
}

func validateDriver(driver string, at *field.Path) field.ErrorList {
	if driver == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(driver) > 63 {
		return field.ErrorList{field.TooLong(at, driver, 63)}
	}
	return invalid(driver, validation.IsDNS1123Subdomain(strings.ToLower(driver)), at)
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

// validateNetworkSource checks the older kinds, each driven by something outside the cluster, for what they cannot do without.
func validateNetworkSource(s *corev1.VolumeSource, at *field.Path) field.ErrorList {
	type need struct {
		name  string
		unset bool
	}
	var needs []need
	switch {
	case s.NFS != nil:
		needs = []need{{"server", s.NFS.Server == ""}, {"path", s.NFS.Path == ""}}
		if s.NFS.Path != "" && !path.IsAbs(s.NFS.Path) {
			return field.ErrorList{field.Invalid(at.Child("path"), s.NFS.Path, "must be an absolute path")}
		}
	case s.ISCSI != nil:
		needs = []need{{"targetPortal", s.ISCSI.TargetPortal == ""}, {"iqn", s.ISCSI.IQN == ""}}
	case s.GCEPersistentDisk != nil:
		needs = []need{{"pdName", s.GCEPersistentDisk.PDName == ""}}
	case s.AWSElasticBlockStore != nil:
		needs = []need{{"volumeID", s.AWSElasticBlockStore.VolumeID == ""}}
	case s.GitRepo != nil:
		needs = []need{{"repository", s.GitRepo.Repository == ""}}
	case s.Glusterfs != nil:
		needs = []need{{"endpoints", s.Glusterfs.EndpointsName == ""}, {"path", s.Glusterfs.Path == ""}}
	case s.RBD != nil:
		needs = []need{{"monitors", len(s.RBD.CephMonitors) == 0}, {"image", s.RBD.RBDImage == ""}}
	case s.FlexVolume != nil:
		needs = []need{{"driver", s.FlexVolume.Driver == ""}}
	case s.Cinder != nil:
		needs = []need{{"volumeID", s.Cinder.VolumeID == ""}}
	case s.CephFS != nil:
		needs = []need{{"monitors", len(s.CephFS.Monitors) == 0}}
	case s.Flocker != nil:
		needs = []need{{"datasetName", s.Flocker.DatasetName == "" && s.Flocker.DatasetUUID == ""}}
	case s.FC != nil:
		needs = []need{{"targetWWNs", len(s.FC.TargetWWNs) == 0 && len(s.FC.WWIDs) == 0}}
	case s.AzureFile != nil:
		needs = []need{{"secretName", s.AzureFile.SecretName == ""}, {"shareName", s.AzureFile.ShareName == ""}}
	case s.VsphereVolume != nil:
		needs = []need{{"volumePath", s.VsphereVolume.VolumePath == ""}}
	case s.Quobyte != nil:
		needs = []need{{"registry", s.Quobyte.Registry == ""}, {"volume", s.Quobyte.Volume == ""}}
	case s.AzureDisk != nil:
		needs = []need{{"diskName", s.AzureDisk.DiskName == ""}, {"diskURI", s.AzureDisk.DataDiskURI == ""}}
	case s.PhotonPersistentDisk != nil:
		needs = []need{{"pdID", s.PhotonPersistentDisk.PdID == ""}}
	case s.PortworxVolume != nil:
		needs = []need{{"volumeID", s.PortworxVolume.VolumeID == ""}}
	case s.ScaleIO != nil:
		needs = []need{{"gateway", s.ScaleIO.Gateway == ""}, {"system", s.ScaleIO.System == ""}, {"volumeName", s.ScaleIO.VolumeName == ""}}
	case s.StorageOS != nil:
		needs = []need{{"volumeName", s.StorageOS.VolumeName == ""}}
	}
	var errs field.ErrorList
	for _, n := range needs {
		if n.unset {
			errs = append(errs, field.Required(at.Child(n.name), ""))
		}
	}
	return errs
}
