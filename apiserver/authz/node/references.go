package node

import (
	corev1 "k8s.io/api/core/v1"

	pods "pilothouse.dev/pkg/pod"
)

// references are the objects that a pod refers to and that its kubelet must read. A mirror pod has none: its kubelet wrote it, and
// would name whatever it wants to read.
func references(p *corev1.Pod) map[ref]bool {
	refs := map[ref]bool{}
	if pods.Mirror(p) {
		return refs
	}
	add := func(k kind, name string) {
		if name != "" {
			refs[ref{k, p.Namespace, name}] = true
		}
	}
	local := func(r *corev1.LocalObjectReference) {
		if r != nil {
			add(secret, r.Name)
		}
	}
	add(account, p.Spec.ServiceAccountName)
	for i := range p.Spec.ImagePullSecrets {
		local(&p.Spec.ImagePullSecrets[i])
	}
	for _, c := range pods.Containers(p) {
		for _, from := range c.EnvFrom {
			if r := from.ConfigMapRef; r != nil {
				add(configMap, r.Name)
			}
			if r := from.SecretRef; r != nil {
				add(secret, r.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add(configMap, r.Name)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add(secret, r.Name)
			}
		}
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		switch {
		case v.Secret != nil:
			add(secret, v.Secret.SecretName)
		case v.ConfigMap != nil:
			add(configMap, v.ConfigMap.Name)
		case v.PersistentVolumeClaim != nil:
			add(claim, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			add(claim, p.Name+"-"+v.Name) // https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#persistentvolumeclaim-naming
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					add(secret, s.Secret.Name)
				}
				if s.ConfigMap != nil {
					add(configMap, s.ConfigMap.Name)
				}
			}
		case v.CSI != nil:
			local(v.CSI.NodePublishSecretRef)
		case v.AzureFile != nil:
			add(secret, v.AzureFile.SecretName)
		case v.CephFS != nil:
			local(v.CephFS.SecretRef)
		case v.Cinder != nil:
			local(v.Cinder.SecretRef)
		case v.FlexVolume != nil:
			local(v.FlexVolume.SecretRef)
		case v.ISCSI != nil:
			local(v.ISCSI.SecretRef)
		case v.RBD != nil:
			local(v.RBD.SecretRef)
		case v.ScaleIO != nil:
			local(v.ScaleIO.SecretRef)
		case v.StorageOS != nil:
			local(v.StorageOS.SecretRef)
		}
	}
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			add(resourceClaim, *c.ResourceClaimName)
		}
	}
	for _, c := range p.Status.ResourceClaimStatuses { // made of templates
		if c.ResourceClaimName != nil {
			add(resourceClaim, *c.ResourceClaimName)
		}
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil {
		add(resourceClaim, s.ResourceClaimName)
	}
	return refs
}

// volumeSecrets are the secrets that a kubelet needs to mount a volume. Where the volume does not say, they are where its claim is.
func volumeSecrets(v *corev1.PersistentVolume) []ref {
	home := ""
	if v.Spec.ClaimRef != nil {
		home = v.Spec.ClaimRef.Namespace
	}
	var refs []ref
	add := func(namespace, name string) {
		if namespace == "" {
			namespace = home
		}
		if namespace != "" && name != "" {
			refs = append(refs, ref{secret, namespace, name})
		}
	}
	far := func(r *corev1.SecretReference) {
		if r != nil {
			add(r.Namespace, r.Name)
		}
	}
	s := &v.Spec.PersistentVolumeSource
	switch {
	case s.CSI != nil:
		far(s.CSI.NodeStageSecretRef)
		far(s.CSI.NodePublishSecretRef)
		far(s.CSI.NodeExpandSecretRef)
	case s.AzureFile != nil:
		namespace := ""
		if s.AzureFile.SecretNamespace != nil {
			namespace = *s.AzureFile.SecretNamespace
		}
		add(namespace, s.AzureFile.SecretName)
	case s.CephFS != nil:
		far(s.CephFS.SecretRef)
	case s.Cinder != nil:
		far(s.Cinder.SecretRef)
	case s.FlexVolume != nil:
		far(s.FlexVolume.SecretRef)
	case s.ISCSI != nil:
		far(s.ISCSI.SecretRef)
	case s.RBD != nil:
		far(s.RBD.SecretRef)
	case s.ScaleIO != nil:
		far(s.ScaleIO.SecretRef)
	case s.StorageOS != nil:
		if r := s.StorageOS.SecretRef; r != nil {
			add(r.Namespace, r.Name)
		}
	}
	return refs
}
