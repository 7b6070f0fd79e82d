package status

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// RecursiveReadOnly says whether what is mounted below a volume is read-only in the container too, where the runtime can do so or not. The error is for a
// mount that asks for what it cannot have.
func RecursiveReadOnly(m corev1.VolumeMount, can bool) (bool, error) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	if !m.ReadOnly {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not read-only", m.Name)
	}
	if p := m.MountPropagation; p != nil && *p != corev1.MountPropagationNone {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not compatible with propagation %q", m.Name, *p)
	}
	if *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled && !can {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", m.Name)
	}
	return can, nil
}

// mounts tells how the container's volumes are mounted.
func mounts(c *corev1.Container, can bool, images map[string]string) []corev1.VolumeMountStatus {
	var list []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if deep, err := RecursiveReadOnly(m, can); err == nil && deep {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		if ref := images[m.Name]; ref != "" {
			s.VolumeStatus = &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{ImageRef: ref}}
		}
		list = append(list, s)
	}
	return list
}
