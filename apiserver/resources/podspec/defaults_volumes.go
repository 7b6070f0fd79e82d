package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

const (
	fileMode          int32 = 0o644 // of files made from objects
	tokenExpiry       int64 = 60 * 60
	certificateExpiry int32 = 24 * 60 * 60
)

func defaultVolume(v *corev1.Volume) {
	s := &v.VolumeSource
	if *s == (corev1.VolumeSource{}) {
		s.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case s.EmptyDir != nil:
		if s.EmptyDir.SizeLimit != nil {
			q := *s.EmptyDir.SizeLimit
			list := corev1.ResourceList{corev1.ResourceStorage: q}
			roundUp(list)
			*s.EmptyDir.SizeLimit = list[corev1.ResourceStorage]
		}
	case s.HostPath != nil:
		orNew(&s.HostPath.Type, corev1.HostPathUnset)
	case s.Secret != nil:
		orNew(&s.Secret.DefaultMode, fileMode)
	case s.ConfigMap != nil:
		orNew(&s.ConfigMap.DefaultMode, fileMode)
	case s.DownwardAPI != nil:
		orNew(&s.DownwardAPI.DefaultMode, fileMode)
		for i := range s.DownwardAPI.Items {
			defaultFieldRef(s.DownwardAPI.Items[i].FieldRef)
		}
	case s.Projected != nil:
		defaultProjected(s.Projected)
	case s.Image != nil:
		if s.Image.PullPolicy == "" {
			s.Image.PullPolicy = pullPolicy(s.Image.Reference)
		}
	case s.Ephemeral != nil:
		if t := s.Ephemeral.VolumeClaimTemplate; t != nil {
			DefaultClaimSpec(&t.Spec)
		}
	default:
		defaultNetworkVolume(s)
	}
}

func defaultProjected(p *corev1.ProjectedVolumeSource) {
	orNew(&p.DefaultMode, fileMode)
	for i := range p.Sources {
		from := &p.Sources[i]
		if from.DownwardAPI != nil {
			for j := range from.DownwardAPI.Items {
				defaultFieldRef(from.DownwardAPI.Items[j].FieldRef)
			}
		}
		if from.ServiceAccountToken != nil {
			orNew(&from.ServiceAccountToken.ExpirationSeconds, tokenExpiry)
		}
		if from.PodCertificate != nil {
			orNew(&from.PodCertificate.MaxExpirationSeconds, certificateExpiry)
		}
	}
}

func defaultNetworkVolume(s *corev1.VolumeSource) {
	switch {
	case s.ISCSI != nil:
		orDefault(&s.ISCSI.ISCSIInterface, "default")
	case s.RBD != nil:
		orDefault(&s.RBD.RBDPool, "rbd")
		orDefault(&s.RBD.RadosUser, "admin")
		orDefault(&s.RBD.Keyring, "/etc/ceph/keyring")
	case s.AzureDisk != nil:
		orNew(&s.AzureDisk.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		orNew(&s.AzureDisk.Kind, corev1.AzureSharedBlobDisk)
		orNew(&s.AzureDisk.FSType, "ext4")
		orNew(&s.AzureDisk.ReadOnly, false)
	case s.ScaleIO != nil:
		orDefault(&s.ScaleIO.StorageMode, "ThinProvisioned")
		orDefault(&s.ScaleIO.FSType, "xfs")
	}
}

func orNew[T any](p **T, value T) {
	if *p == nil {
		*p = ptr.To(value)
	}
}
