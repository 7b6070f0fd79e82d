package objects

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// References are the objects that a pod's spec names: by variables, by volumes, to pull images.
func References(p *corev1.Pod) map[Key]bool {
	refs := map[Key]bool{}
	add := func(kind, name string) {
		if name != "" {
			refs[Key{Kind: kind, Namespace: p.Namespace, Name: name}] = true
		}
	}
	for _, s := range p.Spec.ImagePullSecrets {
		add(Secret, s.Name)
	}
	for _, c := range pod.Containers(p) {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				add(ConfigMap, from.ConfigMapRef.Name)
			}
			if from.SecretRef != nil {
				add(Secret, from.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add(ConfigMap, r.Name)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add(Secret, r.Name)
			}
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.ConfigMap != nil {
			add(ConfigMap, v.ConfigMap.Name)
		}
		if v.Secret != nil {
			add(Secret, v.Secret.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, src := range v.Projected.Sources {
			if src.ConfigMap != nil {
				add(ConfigMap, src.ConfigMap.Name)
			}
			if src.Secret != nil {
				add(Secret, src.Secret.Name)
			}
			if b := src.ClusterTrustBundle; b != nil && b.Name != nil {
				refs[Key{Kind: TrustBundle, Name: *b.Name}] = true
			} else if b != nil && b.SignerName != nil {
				refs[Key{Kind: TrustBundle, Signer: *b.SignerName}] = true
			}
		}
	}
	return refs
}
