package pods

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// enforcesAppArmor refuses pods that name a profile on a node whose kernel cannot keep them to it. Unconfined can be had everywhere.
func enforcesAppArmor(a admission) *rejection {
	if a.cfg.AppArmor {
		return nil
	}
	for _, c := range pod.Containers(a.pod) {
		if profile := appArmor(a.pod, c); profile != nil && profile.Type != corev1.AppArmorProfileTypeUnconfined {
			return &rejection{"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
		}
	}
	return nil
}
