package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// What Windows takes for the name of a user, DOMAIN\USER;
// see https://kubernetes.io/docs/tasks/configure-pod-container/configure-runasusername/.
const (
	longestCredential = 64 * 1024
	longestDomain     = 256
	longestUser       = 104
)

var (
	controls   = regexp.MustCompile(`[[:cntrl:]]`)
	netBIOS    = regexp.MustCompile(`^[^\\/:\*\?"<>|\.]{1}[^\\/:\*\?"<>|]{0,14}$`)
	dnsDomain  = regexp.MustCompile(`^[a-zA-Z0-9\-]+(\.[a-zA-Z0-9\-]+)*$`)
	badInUsers = `"/\:;|=,+*?<>@[]`
)

func validateWindowsOptions(o *corev1.WindowsSecurityContextOptions, at *field.Path) field.ErrorList {
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	if n := o.GMSACredentialSpecName; n != nil {
		errs = append(errs, registry.Invalid(*n, validation.IsDNS1123Subdomain(*n), at.Child("gmsaCredentialSpecName"))...)
	}
	if c := o.GMSACredentialSpec; c != nil {
		switch at := at.Child("gmsaCredentialSpec"); {
		case *c == "":
			errs = append(errs, field.Invalid(at, *c, "gmsaCredentialSpec cannot be an empty string"))
		case len(*c) > longestCredential:
			errs = append(errs, field.Invalid(at, *c, "gmsaCredentialSpec size must be under 64 KiB"))
		}
	}
	if u := o.RunAsUserName; u != nil {
		for _, why := range badUserName(*u) {
			errs = append(errs, field.Invalid(at.Child("runAsUserName"), *u, "runAsUserName"+why))
		}
	}
	return errs
}

func badUserName(name string) []string {
	switch {
	case name == "":
		return []string{" cannot be an empty string"}
	case controls.MatchString(name):
		return []string{" cannot contain control characters"}
	case strings.Count(name, `\`) > 1:
		return []string{" cannot contain more than one backslash"}
	}
	var bad []string
	domain, user, ok := strings.Cut(name, `\`)
	if !ok {
		domain, user = "", name
	} else if len(domain) >= longestDomain {
		bad = append(bad, "'s Domain length must be under 256 characters")
	} else if !netBIOS.MatchString(domain) && !dnsDomain.MatchString(domain) {
		bad = append(bad, "'s Domain doesn't match the NetBios nor the DNS format")
	}
	switch {
	case user == "":
		bad = append(bad, "'s User cannot be empty")
	case len(user) > longestUser:
		bad = append(bad, "'s User length must not be longer than 104 characters")
	case strings.Trim(user, ". ") == "":
		bad = append(bad, "'s User cannot contain only periods or spaces")
	case strings.ContainsAny(user, badInUsers):
		bad = append(bad, "'s User cannot contain the following characters: "+badInUsers)
	}
	return bad
}

// validateHostProcess checks containers that are processes of the host: all of a pod's or none.
func validateHostProcess(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var ofPod *bool
	if s.SecurityContext != nil && s.SecurityContext.WindowsOptions != nil {
		ofPod = s.SecurityContext.WindowsOptions.HostProcess
	}
	all, host := 0, 0
	eachContainerAt(s, path, func(c *corev1.Container, at *field.Path) {
		own := ofPod
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil && c.SecurityContext.WindowsOptions.HostProcess != nil {
			own = c.SecurityContext.WindowsOptions.HostProcess
			if ofPod != nil && *own != *ofPod {
				errs = append(errs, field.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own,
					fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *ofPod)))
			}
		}
		all++
		if own != nil && *own {
			host++
		}
	})
	if host == 0 {
		return errs
	}
	if host != all {
		errs = append(errs, field.Invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if !s.HostNetwork {
		errs = append(errs, field.Invalid(path.Child("hostNetwork"), s.HostNetwork, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}

// validateOS checks that a pod asks nothing of its system that only the other one has.
func validateOS(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	switch {
	case s.OS == nil:
		return nil
	case s.OS.Name == "":
		return field.ErrorList{field.Required(path.Child("os").Child("name"), "cannot be empty")}
	case !systems.Has(s.OS.Name):
		return field.ErrorList{field.NotSupported(path.Child("os"), s.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows})}
	}
	var errs field.ErrorList
	why := "cannot be set for a windows pod"
	forbid := func(set bool, at *field.Path, name string) {
		if set {
			errs = append(errs, field.Forbidden(at.Child(name), why))
		}
	}
	at, c := path.Child("securityContext"), s.SecurityContext
	if c == nil {
		c = &corev1.PodSecurityContext{}
	}
	if s.OS.Name == corev1.Linux {
		why = "windows options cannot be set for a linux pod"
		forbid(c.WindowsOptions != nil, at, "windowsOptions")
		eachSecurityContext(s, path, func(c *corev1.SecurityContext, at *field.Path) { forbid(c.WindowsOptions != nil, at, "windowsOptions") })
		return errs
	}
	forbid(c.AppArmorProfile != nil, at, "appArmorProfile")
	forbid(c.SELinuxOptions != nil, at, "seLinuxOptions")
	forbid(s.HostUsers != nil, path, "hostUsers")
	forbid(s.HostPID, path, "hostPID")
	forbid(s.HostIPC, path, "hostIPC")
	forbid(c.SeccompProfile != nil, at, "seccompProfile")
	forbid(c.FSGroup != nil, at, "fsGroup")
	forbid(c.FSGroupChangePolicy != nil, at, "fsGroupChangePolicy")
	forbid(len(c.Sysctls) > 0, at, "sysctls")
	forbid(s.ShareProcessNamespace != nil, path, "shareProcessNamespace")
	forbid(c.RunAsUser != nil, at, "runAsUser")
	forbid(c.RunAsGroup != nil, at, "runAsGroup")
	forbid(c.SupplementalGroups != nil, at, "supplementalGroups")
	forbid(c.SupplementalGroupsPolicy != nil, at, "supplementalGroupsPolicy")
	forbid(c.SELinuxChangePolicy != nil, at, "seLinuxChangePolicy")
	eachSecurityContext(s, path, func(c *corev1.SecurityContext, at *field.Path) {
		forbid(c.AppArmorProfile != nil, at, "appArmorProfile")
		forbid(c.SELinuxOptions != nil, at, "seLinuxOptions")
		forbid(c.SeccompProfile != nil, at, "seccompProfile")
		forbid(c.Capabilities != nil, at, "capabilities")
		forbid(c.ReadOnlyRootFilesystem != nil, at, "readOnlyRootFilesystem")
		forbid(c.Privileged != nil, at, "privileged")
		forbid(c.AllowPrivilegeEscalation != nil, at, "allowPrivilegeEscalation")
		forbid(c.ProcMount != nil, at, "procMount")
		forbid(c.RunAsUser != nil, at, "runAsUser")
		forbid(c.RunAsGroup != nil, at, "runAsGroup")
	})
	return errs
}

func eachSecurityContext(s *corev1.PodSpec, path *field.Path, f func(*corev1.SecurityContext, *field.Path)) {
	eachContainerAt(s, path, func(c *corev1.Container, at *field.Path) {
		if c.SecurityContext != nil {
			f(c.SecurityContext, at.Child("securityContext"))
		}
	})
}
