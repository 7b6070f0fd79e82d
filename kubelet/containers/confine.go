package containers

import (
	"fmt"
	"strings"

	"github.com/containerd/containerd/contrib/apparmor"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// usualAppArmor is the name of the profile that containers get without asking, as containerd's users know it.
const usualAppArmor = "cri-containerd.apparmor.d"

// confine gives the process its labels of AppArmor and SELinux, where the kernel has them. A profile that was asked for by name and cannot be
// enforced is an error: the container would run with more rights than it was meant to.
func (k kernel) confine(process *specs.Process, sec Security) error {
	if k.seLinux && sec.SELinux != nil && !sec.Privileged {
		process.SelinuxLabel = sec.SELinux.label()
	}
	switch sec.AppArmor {
	case "", SeccompRuntimeDefault:
		if !k.appArmor || sec.Privileged && sec.AppArmor == "" {
			break
		}
		if err := apparmor.LoadDefaultProfile(usualAppArmor); err != nil {
			return fmt.Errorf("loading the usual AppArmor profile: %w", err)
		}
		process.ApparmorProfile = usualAppArmor
		return nil
	case SeccompLocalhost:
		if k.appArmor {
			process.ApparmorProfile = sec.AppArmorProfile
			return nil
		}
	case SeccompUnconfined:
		return nil
	default:
		return fmt.Errorf("AppArmor profile %q: %w", sec.AppArmor, ErrUnsupported)
	}
	if sec.AppArmor != "" {
		return fmt.Errorf("AppArmor is not enabled on the host: %w", ErrUnsupported)
	}
	return nil
}

// label joins the parts: https://selinuxproject.org/page/NB_SC.
func (s SELinux) label() string {
	return strings.Join([]string{or(s.User, "system_u"), or(s.Role, "system_r"), or(s.Type, "container_t"), or(s.Level, "s0")}, ":")
}
