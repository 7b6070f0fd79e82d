package podspec

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

var (
	seccompTypes   = sets.New(corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	appArmorTypes  = sets.New(corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	procMounts     = sets.New(corev1.DefaultProcMount, corev1.UnmaskedProcMount)
	fsChanges      = sets.New(corev1.FSGroupChangeOnRootMismatch, corev1.FSGroupChangeAlways)
	groupPolicies  = sets.New(corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	selinuxChanges = sets.New(corev1.SELinuxChangePolicyRecursive, corev1.SELinuxChangePolicyMountOption)
	sysctlName     = regexp.MustCompile(`^([a-z0-9][-_a-z0-9]*[a-z0-9]|[a-z0-9])([./]([a-z0-9][-_a-z0-9]*[a-z0-9]|[a-z0-9]))*$`)
)

const longestSysctl = 253

// validatePodSecurity checks what the pod as a whole may do.
func validatePodSecurity(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		errs = append(errs, field.Invalid(at.Child("securityContext").Child("shareProcessNamespace"), *s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	if s.HostUsers != nil && !*s.HostUsers {
		for name, set := range map[string]bool{"hostNetwork": s.HostNetwork, "HostPID": s.HostPID, "HostIPC": s.HostIPC} {
			if set {
				errs = append(errs, field.Forbidden(at.Child(name), "when `pod.Spec.HostUsers` is false"))
			}
		}
	}
	at, c := at.Child("securityContext"), s.SecurityContext
	if c == nil {
		return errs
	}
	errs = append(errs, validateID(c.RunAsUser, validation.IsValidUserID, at.Child("runAsUser"))...)
	errs = append(errs, validateID(c.RunAsGroup, validation.IsValidGroupID, at.Child("runAsGroup"))...)
	errs = append(errs, validateID(c.FSGroup, validation.IsValidGroupID, at.Child("fsGroup"))...)
	for i := range c.SupplementalGroups {
		errs = append(errs, validateID(&c.SupplementalGroups[i], validation.IsValidGroupID, at.Child("supplementalGroups").Index(i))...)
	}
	errs = append(errs, oneOfIfSet(c.FSGroupChangePolicy, fsChanges, at.Child("fsGroupChangePolicy"))...)
	errs = append(errs, oneOfIfSet(c.SupplementalGroupsPolicy, groupPolicies, at.Child("supplementalGroupsPolicy"))...)
	errs = append(errs, oneOfIfSet(c.SELinuxChangePolicy, selinuxChanges, at.Child("seLinuxChangePolicy"))...)
	errs = append(errs, validateSysctls(c.Sysctls, s, at.Child("sysctls"))...)
	errs = append(errs, validateSeccomp(c.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateWindowsOptions(c.WindowsOptions, at.Child("windowsOptions"))...)
	return append(errs, validateAppArmor(c.AppArmorProfile, at.Child("appArmorProfile"))...)
}

func validateID(id *int64, check func(int64) []string, at *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return registry.Invalid(*id, check(*id), at)
}

func validateSysctls(all []corev1.Sysctl, s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, c := range all {
		name := at.Index(i).Child("name")
		plain := strings.ReplaceAll(c.Name, "/", ".")
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(name, ""))
		case len(c.Name) > longestSysctl || !sysctlName.MatchString(c.Name):
			errs = append(errs, field.Invalid(name, c.Name, "must have at most 253 characters and match regex "+sysctlName.String()))
		case seen.Has(plain):
			errs = append(errs, field.Duplicate(name, c.Name))
		}
		seen.Insert(plain)
		if s.HostNetwork && strings.HasPrefix(plain, "net.") {
			errs = append(errs, field.Invalid(name, c.Name, "may not be specified when 'hostNetwork' is true"))
		}
		if s.HostIPC && (strings.HasPrefix(plain, "fs.mqueue.") || strings.HasPrefix(plain, "kernel.shm") || strings.HasPrefix(plain, "kernel.msg") || plain == "kernel.sem") {
			errs = append(errs, field.Invalid(name, c.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}

func validateSeccomp(p *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := oneOf(p.Type, seccompTypes, at.Child("type"))
	profile := at.Child("localhostProfile")
	switch local := p.Type == corev1.SeccompProfileTypeLocalhost; {
	case local && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(profile, "must be set when seccomp type is Localhost"))
	case local:
		errs = append(errs, validateInside(*p.LocalhostProfile, profile)...)
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(profile, p, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateAppArmor(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := oneOf(p.Type, appArmorTypes, at.Child("type"))
	profile := at.Child("localhostProfile")
	switch local := p.Type == corev1.AppArmorProfileTypeLocalhost; {
	case local && (p.LocalhostProfile == nil || strings.TrimSpace(*p.LocalhostProfile) == ""):
		errs = append(errs, field.Required(profile, "must be set when AppArmor type is Localhost"))
	case local:
		if strings.TrimSpace(*p.LocalhostProfile) != *p.LocalhostProfile {
			errs = append(errs, field.Invalid(profile, *p.LocalhostProfile, "must not be padded with whitespace"))
		}
		if len(*p.LocalhostProfile) > 4095 {
			errs = append(errs, field.TooLong(profile, *p.LocalhostProfile, 4095))
		}
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(profile, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
	}
	return errs
}

// validateSecurity checks what one container may do.
func validateSecurity(c *corev1.SecurityContext, s *corev1.PodSpec, at *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := validateID(c.RunAsUser, validation.IsValidUserID, at.Child("runAsUser"))
	errs = append(errs, validateID(c.RunAsGroup, validation.IsValidGroupID, at.Child("runAsGroup"))...)
	errs = append(errs, oneOfIfSet(c.ProcMount, procMounts, at.Child("procMount"))...)
	if c.ProcMount != nil && *c.ProcMount == corev1.UnmaskedProcMount && (s.HostUsers == nil || *s.HostUsers) {
		errs = append(errs, field.Invalid(at.Child("procMount"), *c.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
	}
	errs = append(errs, validateSeccomp(c.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateWindowsOptions(c.WindowsOptions, at.Child("windowsOptions"))...)
	errs = append(errs, validateAppArmor(c.AppArmorProfile, at.Child("appArmorProfile"))...)
	if c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation {
		return errs
	}
	path := at.Child("allowPrivilegeEscalation")
	if c.Privileged != nil && *c.Privileged {
		errs = append(errs, field.Invalid(path, *c.AllowPrivilegeEscalation, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
	}
	if c.Capabilities != nil {
		for _, added := range c.Capabilities.Add {
			if added == "CAP_SYS_ADMIN" {
				errs = append(errs, field.Invalid(path, *c.AllowPrivilegeEscalation, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
			}
		}
	}
	return errs
}
