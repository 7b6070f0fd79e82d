package pods

import (
	"errors"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
)

// security joins the pod's security context with the container's, which wins.
func security(p *corev1.Pod, c *corev1.Container, profiles string) (containers.Security, error) {
	var s containers.Security
	profile := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
	if sc := p.Spec.SecurityContext; sc != nil {
		s.RunAsUser, s.RunAsGroup = sc.RunAsUser, sc.RunAsGroup
		s.RunAsNonRoot = sc.RunAsNonRoot != nil && *sc.RunAsNonRoot
		s.SupplementalGroups = append(s.SupplementalGroups, sc.SupplementalGroups...)
		if sc.FSGroup != nil {
			s.SupplementalGroups = append(s.SupplementalGroups, *sc.FSGroup)
		}
		if sc.SeccompProfile != nil {
			profile = sc.SeccompProfile
		}
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			s.RunAsUser = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			s.RunAsGroup = sc.RunAsGroup
		}
		if sc.RunAsNonRoot != nil {
			s.RunAsNonRoot = *sc.RunAsNonRoot
		}
		if sc.SeccompProfile != nil {
			profile = sc.SeccompProfile
		}
		s.Privileged = sc.Privileged != nil && *sc.Privileged
		s.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
		s.ReadOnlyRoot = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
		s.UnmaskedProc = sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount
		if caps := sc.Capabilities; caps != nil {
			for _, add := range caps.Add {
				s.CapAdd = append(s.CapAdd, string(add))
			}
			for _, drop := range caps.Drop {
				s.CapDrop = append(s.CapDrop, string(drop))
			}
		}
	}
	switch s.Seccomp = string(profile.Type); profile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined:
	case corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile == nil || *profile.LocalhostProfile == "" {
			return s, errors.New("seccomp profile of type Localhost names no file")
		}
		s.SeccompPath = filepath.Join(profiles, filepath.Clean("/"+*profile.LocalhostProfile))
	default:
		return s, fmt.Errorf("seccomp profile of type %q is not known", profile.Type)
	}
	return s, nil
}
