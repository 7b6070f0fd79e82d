package pods

import (
	"fmt"
	"slices"
	"strings"
)

// safeSysctls belong to a pod's own namespaces and cannot harm others: https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster.
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
}

// sysctls refuses names that are neither safe nor allowed on this node, and those whose namespace is the node's.
func sysctls(a admission) *rejection {
	sc := a.pod.Spec.SecurityContext
	if sc == nil {
		return nil
	}
	for _, ctl := range sc.Sysctls {
		name := dotted(ctl.Name)
		space := sysctlNamespace(name)
		switch {
		case space == "" || !allowedSysctl(name, a.cfg.UnsafeSysctls):
			return &rejection{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q not allowlisted", name)}
		case space == "ipc" && a.pod.Spec.HostIPC, space == "net" && a.pod.Spec.HostNetwork:
			return &rejection{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q not allowed with host %s enabled", name, space)}
		}
	}
	return nil
}

// allowedSysctl: patterns are names, or the beginning of names with a star.
func allowedSysctl(name string, patterns []string) bool {
	return slices.Contains(safeSysctls, name) || slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern = dotted(pattern)
		start, open := strings.CutSuffix(pattern, "*")
		return name == pattern || open && strings.HasPrefix(name, start)
	})
}

// sysctlNamespace says which of a pod's namespaces a sysctl belongs to; none if it is the whole node's.
func sysctlNamespace(name string) string {
	switch {
	case strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem", strings.HasPrefix(name, "fs.mqueue."):
		return "ipc"
	case strings.HasPrefix(name, "net."):
		return "net"
	}
	return ""
}

// dotted is a sysctl's name with dots between its parts. The first separator says which of the two ways it is written: in one with slashes a dot
// belongs to a part (net/ipv4/conf/eth0.1/forwarding), and becomes a slash.
func dotted(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

// CheckSysctls says what is wrong with patterns of sysctls that are to be allowed.
func CheckSysctls(patterns []string) error {
	for _, p := range patterns {
		name := dotted(p)
		start, open := strings.CutSuffix(name, "*")
		if start == "" || strings.Contains(start, "*") {
			return fmt.Errorf("sysctl %q must be a name, or the beginning of names with a star at its end", p)
		}
		if sysctlNamespace(start) == "" && !(open && sysctlNamespace(start+".") != "") {
			return fmt.Errorf("the sysctls %q are not known to be namespaced", p)
		}
	}
	return nil
}
