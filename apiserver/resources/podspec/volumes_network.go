package podspec

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

const longestLUN = 255 // also of partitions

// Names of iSCSI nodes (RFC 3720 and RFC 3980).
var (
	iqnName = regexp.MustCompile(`^iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`)
	euiName = regexp.MustCompile(`^eui\.[[:alnum:]]{16}$`)
	naaName = regexp.MustCompile(`^naa\.[[:alnum:]]{32}$`)
)

var (
	azureCachings = sets.New(corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
	azureKinds    = sets.New(corev1.AzureSharedBlobDisk, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk)
)

// validateNetworkSource checks the older kinds, each driven by something outside the cluster.
func validateNetworkSource(s *corev1.VolumeSource, at *field.Path) field.ErrorList {
	need := func(pairs ...string) (errs field.ErrorList) {
		for i := 0; i < len(pairs); i += 2 {
			errs = append(errs, required(pairs[i+1], at.Child(pairs[i]))...)
		}
		return errs
	}
	switch {
	case s.NFS != nil:
		errs := need("server", s.NFS.Server, "path", s.NFS.Path)
		if s.NFS.Path != "" && !path.IsAbs(s.NFS.Path) {
			errs = append(errs, field.Invalid(at.Child("path"), s.NFS.Path, "must be an absolute path"))
		}
		return errs
	case s.ISCSI != nil:
		return append(need("targetPortal", s.ISCSI.TargetPortal), validateISCSI(s.ISCSI, at)...)
	case s.FC != nil:
		return validateFC(s.FC, at)
	case s.GCEPersistentDisk != nil:
		return append(need("pdName", s.GCEPersistentDisk.PDName), validatePartition(s.GCEPersistentDisk.Partition, at)...)
	case s.AWSElasticBlockStore != nil:
		return append(need("volumeID", s.AWSElasticBlockStore.VolumeID), validatePartition(s.AWSElasticBlockStore.Partition, at)...)
	case s.GitRepo != nil:
		return append(need("repository", s.GitRepo.Repository), validateInside(s.GitRepo.Directory, at.Child("directory"))...)
	case s.Glusterfs != nil:
		return need("endpoints", s.Glusterfs.EndpointsName, "path", s.Glusterfs.Path)
	case s.RBD != nil:
		return need("monitors", strings.Join(s.RBD.CephMonitors, ","), "image", s.RBD.RBDImage)
	case s.CephFS != nil:
		return need("monitors", strings.Join(s.CephFS.Monitors, ","))
	case s.Cinder != nil:
		return append(need("volumeID", s.Cinder.VolumeID), validateSecretRef(s.Cinder.SecretRef, at.Child("secretRef"))...)
	case s.FlexVolume != nil:
		return append(need("driver", s.FlexVolume.Driver), validateFlexOptions(s.FlexVolume.Options, at.Child("options"))...)
	case s.Flocker != nil:
		return validateFlocker(s.Flocker, at)
	case s.AzureFile != nil:
		return need("secretName", s.AzureFile.SecretName, "shareName", s.AzureFile.ShareName)
	case s.AzureDisk != nil:
		return append(need("diskName", s.AzureDisk.DiskName, "diskURI", s.AzureDisk.DataDiskURI), validateAzureDisk(s.AzureDisk, at)...)
	case s.VsphereVolume != nil:
		return need("volumePath", s.VsphereVolume.VolumePath)
	case s.Quobyte != nil:
		return validateQuobyte(s.Quobyte, at)
	case s.PhotonPersistentDisk != nil:
		return need("pdID", s.PhotonPersistentDisk.PdID)
	case s.PortworxVolume != nil:
		return need("volumeID", s.PortworxVolume.VolumeID)
	case s.ScaleIO != nil:
		return need("gateway", s.ScaleIO.Gateway, "system", s.ScaleIO.System, "volumeName", s.ScaleIO.VolumeName)
	case s.StorageOS != nil:
		return validateStorageOS(s.StorageOS, at)
	}
	return nil
}

func validateISCSI(s *corev1.ISCSIVolumeSource, at *field.Path) field.ErrorList {
	errs := validateISCSIName(s.IQN, at.Child("iqn"))
	errs = append(errs, validateLUN(s.Lun, at)...)
	if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if s.InitiatorName != nil {
		errs = append(errs, validateISCSIName(*s.InitiatorName, at.Child("initiatorname"))...)
	}
	return errs
}

func validateISCSIName(name string, at *field.Path) field.ErrorList {
	var good bool
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case strings.HasPrefix(name, "iqn"):
		good = iqnName.MatchString(name)
	case strings.HasPrefix(name, "eui"):
		good = euiName.MatchString(name)
	case strings.HasPrefix(name, "naa"):
		good = naaName.MatchString(name)
	default:
		return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
	}
	if !good {
		return field.ErrorList{field.Invalid(at, name, "must be valid format")}
	}
	return nil
}

func validateLUN(lun int32, at *field.Path) field.ErrorList {
	if lun < 0 || lun > longestLUN {
		return field.ErrorList{field.Invalid(at.Child("lun"), lun, validation.InclusiveRangeError(0, longestLUN))}
	}
	return nil
}

func validatePartition(n int32, at *field.Path) field.ErrorList {
	if n < 0 || n > longestLUN {
		return field.ErrorList{field.Invalid(at.Child("partition"), n, validation.InclusiveRangeError(1, longestLUN))}
	}
	return nil
}

func validateFC(s *corev1.FCVolumeSource, at *field.Path) field.ErrorList {
	names := at.Child("targetWWNs")
	switch {
	case len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0:
		return field.ErrorList{field.Required(names, "must specify either targetWWNs or wwids, but not both")}
	case len(s.TargetWWNs) == 0:
		return nil
	}
	var errs field.ErrorList
	if len(s.WWIDs) > 0 {
		errs = append(errs, field.Invalid(names, s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	if s.Lun == nil {
		return append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
	}
	return append(errs, validateLUN(*s.Lun, at)...)
}

func validateFlexOptions(options map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range sets.List(sets.KeySet(options)) {
		domain, _, _ := strings.Cut(key, "/")
		if domain = "." + strings.ToLower(domain); strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			errs = append(errs, field.Invalid(at.Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func validateFlocker(s *corev1.FlockerVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case s.DatasetName == "" && s.DatasetUUID == "":
		errs = append(errs, field.Required(at, "one of datasetName and datasetUUID is required"))
	case s.DatasetName != "" && s.DatasetUUID != "":
		errs = append(errs, field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(s.DatasetName, "/") {
		errs = append(errs, field.Invalid(at.Child("datasetName"), s.DatasetName, "must not contain '/'"))
	}
	return errs
}

func validateAzureDisk(s *corev1.AzureDiskVolumeSource, at *field.Path) field.ErrorList {
	errs := oneOfIfSet(s.CachingMode, azureCachings, at.Child("cachingMode"))
	errs = append(errs, oneOfIfSet(s.Kind, azureKinds, at.Child("kind"))...)
	if s.Kind == nil || s.DataDiskURI == "" {
		return errs
	}
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *s.Kind == corev1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(s.DataDiskURI, prefix) {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), s.DataDiskURI, []string{form}))
	}
	return errs
}

func validateQuobyte(s *corev1.QuobyteVolumeSource, at *field.Path) field.ErrorList {
	const form = "must be a host:port pair or multiple pairs separated by commas"
	var errs field.ErrorList
	registry := at.Child("registry")
	switch {
	case s.Registry == "":
		errs = append(errs, field.Required(registry, form))
	case len(s.Tenant) > 64:
		errs = append(errs, field.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for pair := range strings.SplitSeq(s.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(registry, s.Registry, form))
			}
		}
	}
	return append(errs, required(s.Volume, at.Child("volume"))...)
}

func validateStorageOS(s *corev1.StorageOSVolumeSource, at *field.Path) field.ErrorList {
	errs := required(s.VolumeName, at.Child("volumeName"))
	label := func(text string, at *field.Path) {
		if text != "" {
			errs = append(errs, registry.Invalid(text, validation.IsDNS1123Label(text), at)...)
		}
	}
	label(s.VolumeName, at.Child("volumeName"))
	label(s.VolumeNamespace, at.Child("volumeNamespace"))
	return append(errs, validateSecretRef(s.SecretRef, at.Child("secretRef"))...)
}
