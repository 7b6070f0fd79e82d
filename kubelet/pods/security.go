package pods

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
)

// security joins the pod's security context with the container's, which wins. Profiles of seccomp lie in Config.Root.
func (c *Config) security(p *corev1.Pod, k *corev1.Container) (containers.Security, error) {
	var s containers.Security
	ofPod, own := p.Spec.SecurityContext, k.SecurityContext
	if ofPod == nil {
		ofPod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	s.RunAsUser, s.RunAsGroup = first(own.RunAsUser, ofPod.RunAsUser), first(own.RunAsGroup, ofPod.RunAsGroup)
	s.RunAsNonRoot = is(first(own.RunAsNonRoot, ofPod.RunAsNonRoot))
	s.SupplementalGroups = append(s.SupplementalGroups, ofPod.SupplementalGroups...)
	if ofPod.FSGroup != nil {
		s.SupplementalGroups = append(s.SupplementalGroups, *ofPod.FSGroup)
	}
	s.StrictGroups = ofPod.SupplementalGroupsPolicy != nil && *ofPod.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
	s.Privileged = is(own.Privileged)
	s.NoNewPrivileges = own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation
	s.ReadOnlyRoot = is(own.ReadOnlyRootFilesystem)
	s.UnmaskedProc = own.ProcMount != nil && *own.ProcMount == corev1.UnmaskedProcMount
	if caps := own.Capabilities; caps != nil {
		for _, add := range caps.Add {
			s.CapAdd = append(s.CapAdd, string(add))
		}
		for _, drop := range caps.Drop {
			s.CapDrop = append(s.CapDrop, string(drop))
		}
	}
	if l := first(own.SELinuxOptions, ofPod.SELinuxOptions); l != nil {
		s.SELinux = &containers.SELinux{User: l.User, Role: l.Role, Type: l.Type, Level: l.Level}
	}
	if profile := appArmor(p, k); profile != nil {
		s.AppArmor = string(profile.Type)
		if profile.LocalhostProfile != nil {
			s.AppArmorProfile = *profile.LocalhostProfile
		}
	}
	return s, c.seccomp(&s, first(own.SeccompProfile, ofPod.SeccompProfile))
}

// seccomp sets the profile; what is not said is Config.SeccompDefault's.
func (c *Config) seccomp(s *containers.Security, profile *corev1.SeccompProfile) error {
	if profile == nil {
		if s.Seccomp = containers.SeccompUnconfined; c.SeccompDefault {
			s.Seccomp = containers.SeccompRuntimeDefault
		}
		return nil
	}
	switch s.Seccomp = string(profile.Type); profile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined:
	case corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile == nil || *profile.LocalhostProfile == "" {
			return errors.New("localhostProfile must be set if seccompProfile type is Localhost")
		}
		s.SeccompPath = filepath.Join(c.Root, "seccomp", filepath.Clean("/"+*profile.LocalhostProfile))
	default:
		return fmt.Errorf("seccomp profile of type %q is not known", profile.Type)
	}
	return nil
}

// appArmor is the container's profile: its own, that of the annotation which old static pods have, or the pod's.
func appArmor(p *corev1.Pod, k *corev1.Container) *corev1.AppArmorProfile {
	if sc := k.SecurityContext; sc != nil && sc.AppArmorProfile != nil {
		return sc.AppArmorProfile
	}
	if text, ok := p.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+k.Name]; ok {
		name, local := strings.CutPrefix(text, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
		switch {
		case local:
			return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
		case text == corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
			return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
		case text == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
			return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
		}
	}
	if sc := p.Spec.SecurityContext; sc != nil {
		return sc.AppArmorProfile
	}
	return nil
}

// first is the first that is said.
func first[T any](all ...*T) *T {
	for _, v := range all {
		if v != nil {
			return v
		}
	}
	return nil
}

func is(b *bool) bool { return b != nil && *b }
