package volumespec

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// source is one way in which a volume can be backed.
type source struct {
	name  string
	set   func(*corev1.PersistentVolumeSource) bool
	check func(*corev1.PersistentVolumeSource, *field.Path) field.ErrorList // called when it is set
}

// sources are all of them; of several that are set the first counts and the others are refused.
var sources = []source{
	{"hostPath", func(s *corev1.PersistentVolumeSource) bool { return s.HostPath != nil }, checkHostPath},
	{"gcePersistentDisk", func(s *corev1.PersistentVolumeSource) bool { return s.GCEPersistentDisk != nil }, checkGCE},
	{"awsElasticBlockStore", func(s *corev1.PersistentVolumeSource) bool { return s.AWSElasticBlockStore != nil }, checkAWS},
	{"glusterfs", func(s *corev1.PersistentVolumeSource) bool { return s.Glusterfs != nil }, checkGlusterfs},
	{"flocker", func(s *corev1.PersistentVolumeSource) bool { return s.Flocker != nil }, checkFlocker},
	{"nfs", func(s *corev1.PersistentVolumeSource) bool { return s.NFS != nil }, checkNFS},
	{"rbd", func(s *corev1.PersistentVolumeSource) bool { return s.RBD != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		return needs(at, need{"monitors", len(s.RBD.CephMonitors) > 0}, need{"image", s.RBD.RBDImage != ""})
	}},
	{"quobyte", func(s *corev1.PersistentVolumeSource) bool { return s.Quobyte != nil }, checkQuobyte},
	{"cephfs", func(s *corev1.PersistentVolumeSource) bool { return s.CephFS != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		return needs(at, need{"monitors", len(s.CephFS.Monitors) > 0})
	}},
	{"iscsi", func(s *corev1.PersistentVolumeSource) bool { return s.ISCSI != nil }, checkISCSI},
	{"cinder", func(s *corev1.PersistentVolumeSource) bool { return s.Cinder != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		errs := needs(at, need{"volumeID", s.Cinder.VolumeID != ""})
		if r := s.Cinder.SecretRef; r != nil {
			errs = append(errs, needs(at.Child("secretRef"), need{"name", r.Name != ""}, need{"namespace", r.Namespace != ""})...)
		}
		return errs
	}},
	{"fc", func(s *corev1.PersistentVolumeSource) bool { return s.FC != nil }, checkFC},
	{"flexVolume", func(s *corev1.PersistentVolumeSource) bool { return s.FlexVolume != nil }, checkFlex},
	{"azureFile", func(s *corev1.PersistentVolumeSource) bool { return s.AzureFile != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		f := s.AzureFile
		return needs(at, need{"secretName", f.SecretName != ""}, need{"shareName", f.ShareName != ""},
			need{"secretNamespace", f.SecretNamespace == nil || *f.SecretNamespace != ""})
	}},
	{"vsphereVolume", func(s *corev1.PersistentVolumeSource) bool { return s.VsphereVolume != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		return needs(at, need{"volumePath", s.VsphereVolume.VolumePath != ""})
	}},
	{"azureDisk", func(s *corev1.PersistentVolumeSource) bool { return s.AzureDisk != nil }, checkAzureDisk},
	{"photonPersistentDisk", func(s *corev1.PersistentVolumeSource) bool { return s.PhotonPersistentDisk != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		return needs(at, need{"pdID", s.PhotonPersistentDisk.PdID != ""})
	}},
	{"portworxVolume", func(s *corev1.PersistentVolumeSource) bool { return s.PortworxVolume != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		return needs(at, need{"volumeID", s.PortworxVolume.VolumeID != ""})
	}},
	{"scaleIO", func(s *corev1.PersistentVolumeSource) bool { return s.ScaleIO != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		return needs(at, need{"gateway", s.ScaleIO.Gateway != ""}, need{"system", s.ScaleIO.System != ""}, need{"volumeName", s.ScaleIO.VolumeName != ""})
	}},
	{"local", func(s *corev1.PersistentVolumeSource) bool { return s.Local != nil }, func(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
		return noWayUp(s.Local.Path, at.Child("path"))
	}},
	{"storageos", func(s *corev1.PersistentVolumeSource) bool { return s.StorageOS != nil }, checkStorageOS},
	{"csi", func(s *corev1.PersistentVolumeSource) bool { return s.CSI != nil }, checkCSI},
}

// validateSource checks that a volume has exactly one source, and that one.
func validateSource(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := false
	for _, one := range sources {
		switch {
		case !one.set(s):
		case found:
			errs = append(errs, field.Forbidden(at.Child(one.name), "may not specify more than 1 volume type"))
		default:
			found = true
			errs = append(errs, one.check(s, at.Child(one.name))...)
		}
	}
	if !found {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

// need is a field that must be there.
type need struct {
	name  string
	there bool
}

func needs(at *field.Path, all ...need) field.ErrorList {
	var errs field.ErrorList
	for _, n := range all {
		if !n.there {
			errs = append(errs, field.Required(at.Child(n.name), ""))
		}
	}
	return errs
}

// noWayUp checks a path that must be there and stay below where it begins.
func noWayUp(p string, at *field.Path) field.ErrorList {
	if p == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if slices.Contains(strings.Split(p, "/"), "..") {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

var hostPathTypes = sets.New(corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
	corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)

func checkHostPath(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := noWayUp(s.HostPath.Path, at.Child("path"))
	if t := s.HostPath.Type; t != nil && !hostPathTypes.Has(*t) {
		errs = append(errs, field.NotSupported(at.Child("type"), *t, sets.List(hostPathTypes)))
	}
	return errs
}

func checkGCE(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, need{"pdName", s.GCEPersistentDisk.PDName != ""})
	return append(errs, partition(s.GCEPersistentDisk.Partition, at)...)
}

func checkAWS(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, need{"volumeID", s.AWSElasticBlockStore.VolumeID != ""})
	return append(errs, partition(s.AWSElasticBlockStore.Partition, at)...)
}

func partition(n int32, at *field.Path) field.ErrorList {
	if n < 0 || n > 255 {
		return field.ErrorList{field.Invalid(at.Child("partition"), n, validation.InclusiveRangeError(0, 255))}
	}
	return nil
}

func checkGlusterfs(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, need{"endpoints", s.Glusterfs.EndpointsName != ""}, need{"path", s.Glusterfs.Path != ""})
	if ns := s.Glusterfs.EndpointsNamespace; ns != nil {
		if *ns == "" {
			return append(errs, field.Invalid(at.Child("endpointsNamespace"), *ns, "if the endpointnamespace is set, it must be a valid namespace name"))
		}
		errs = append(errs, registry.Invalid(*ns, validation.IsDNS1123Label(*ns), at.Child("endpointsNamespace"))...)
	}
	return errs
}

func checkFlocker(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	f := s.Flocker
	var errs field.ErrorList
	if f.DatasetName == "" && f.DatasetUUID == "" {
		errs = append(errs, field.Required(at, "one of datasetName and datasetUUID is required"))
	}
	if f.DatasetName != "" && f.DatasetUUID != "" {
		errs = append(errs, field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(f.DatasetName, "/") {
		errs = append(errs, field.Invalid(at.Child("datasetName"), f.DatasetName, "must not contain '/'"))
	}
	return errs
}

func checkNFS(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, need{"server", s.NFS.Server != ""}, need{"path", s.NFS.Path != ""})
	if !path.IsAbs(s.NFS.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), s.NFS.Path, "must be an absolute path"))
	}
	return errs
}

func checkQuobyte(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	q := s.Quobyte
	if q.Registry == "" {
		return field.ErrorList{field.Required(at.Child("registry"), "must be a host:port pair or multiple pairs separated by commas")}
	}
	var errs field.ErrorList
	if len(q.Tenant) >= 65 {
		errs = append(errs, field.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	}
	for pair := range strings.SplitSeq(q.Registry, ",") {
		if !strings.Contains(pair, ":") {
			errs = append(errs, field.Invalid(at.Child("registry"), q.Registry, "must be a host:port pair or multiple pairs separated by commas"))
		}
	}
	return append(errs, needs(at, need{"volume", q.Volume != ""})...)
}

func checkISCSI(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	i := s.ISCSI
	errs := needs(at, need{"targetPortal", i.TargetPortal != ""}, need{"iqn", i.IQN != ""})
	if i.IQN != "" {
		errs = append(errs, qualifiedName(i.IQN, at.Child("iqn"))...)
	}
	if i.Lun < 0 || i.Lun > 255 {
		errs = append(errs, field.Invalid(at.Child("lun"), i.Lun, validation.InclusiveRangeError(0, 255)))
	}
	if (i.DiscoveryCHAPAuth || i.SessionCHAPAuth) && i.SecretRef == nil {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if i.SecretRef != nil {
		errs = append(errs, needs(at.Child("secretRef"), need{"name", i.SecretRef.Name != ""})...)
	}
	if i.InitiatorName != nil {
		errs = append(errs, qualifiedName(*i.InitiatorName, at.Child("initiatorname"))...)
	}
	return errs
}

// qualifiedName checks a name of iSCSI by its beginning (RFC 3720, 3.2.6.3).
func qualifiedName(name string, at *field.Path) field.ErrorList {
	for _, prefix := range []string{"iqn.", "eui.", "naa."} {
		if strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			return nil
		}
	}
	return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
}

func checkFC(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	f := s.FC
	switch {
	case len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0:
		return field.ErrorList{field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both")}
	case len(f.TargetWWNs) > 0 && len(f.WWIDs) > 0:
		return field.ErrorList{field.Invalid(at.Child("targetWWNs"), f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")}
	case len(f.WWIDs) > 0:
		return nil
	case f.Lun == nil:
		return field.ErrorList{field.Required(at.Child("lun"), "lun is required if targetWWNs is specified")}
	case *f.Lun < 0 || *f.Lun > 255:
		return field.ErrorList{field.Invalid(at.Child("lun"), *f.Lun, validation.InclusiveRangeError(0, 255))}
	}
	return nil
}

func checkFlex(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, need{"driver", s.FlexVolume.Driver != ""})
	for _, key := range sets.List(sets.KeySet(s.FlexVolume.Options)) {
		domain, _, _ := strings.Cut(key, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			errs = append(errs, field.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func checkAzureDisk(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	d := s.AzureDisk
	errs := needs(at, need{"diskName", d.DiskName != ""}, need{"diskURI", d.DataDiskURI != ""})
	if m := d.CachingMode; m != nil {
		known := sets.New(corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
		if !known.Has(*m) {
			errs = append(errs, field.NotSupported(at.Child("cachingMode"), *m, sets.List(known)))
		}
	}
	if d.Kind == nil {
		return errs
	}
	kinds := sets.New(corev1.AzureSharedBlobDisk, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk)
	if !kinds.Has(*d.Kind) {
		errs = append(errs, field.NotSupported(at.Child("kind"), *d.Kind, sets.List(kinds)))
	}
	prefix, example := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *d.Kind == corev1.AzureManagedDisk {
		prefix, example = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(d.DataDiskURI, prefix) {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), d.DataDiskURI, []string{example}))
	}
	return errs
}

func checkStorageOS(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	o := s.StorageOS
	errs := named(o.VolumeName, validation.IsDNS1123Label, at.Child("volumeName"))
	if o.VolumeNamespace != "" {
		errs = append(errs, registry.Invalid(o.VolumeNamespace, validation.IsDNS1123Label(o.VolumeNamespace), at.Child("volumeNamespace"))...)
	}
	if r := o.SecretRef; r != nil {
		errs = append(errs, needs(at.Child("secretRef"), need{"name", r.Name != ""}, need{"namespace", r.Namespace != ""})...)
	}
	return errs
}

func checkCSI(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	c := s.CSI
	errs := ValidateDriver(c.Driver, at.Child("driver"))
	errs = append(errs, needs(at, need{"volumeHandle", c.VolumeHandle != ""})...)
	for _, ref := range []struct {
		name   string
		secret *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", c.ControllerPublishSecretRef}, {"controllerExpandSecretRef", c.ControllerExpandSecretRef},
		{"nodePublishSecretRef", c.NodePublishSecretRef}, {"nodeExpandSecretRef", c.NodeExpandSecretRef},
	} {
		if ref.secret == nil {
			continue
		}
		at := at.Child(ref.name)
		errs = append(errs, named(ref.secret.Name, validation.IsDNS1123Subdomain, at.Child("name"))...)
		errs = append(errs, named(ref.secret.Namespace, validation.IsDNS1123Label, at.Child("namespace"))...)
	}
	return errs
}
