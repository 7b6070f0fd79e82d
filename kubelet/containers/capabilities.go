package containers

import (
	"slices"
	"strings"

	"github.com/containerd/containerd/pkg/cap"
)

// usualCaps is what a container has without asking, the set every container engine agreed on.
var usualCaps = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
	"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// capabilities applies add and drop to the usual set. ALL is taken first, so that «drop ALL, add X» is X. What this process does not have
// itself it cannot give, and leaves out.
func capabilities(sec Security, mine map[string]bool) []string {
	set := make(map[string]bool)
	give := func(names []string, on bool) {
		for _, n := range names {
			set[capName(n)] = on
		}
	}
	switch {
	case sec.Privileged:
		give(cap.Known(), true)
	default:
		give(usualCaps, true)
		if hasAll(sec.CapAdd) {
			give(cap.Known(), true)
		}
		if hasAll(sec.CapDrop) {
			clear(set)
		}
		give(without(sec.CapAdd), true)
		give(without(sec.CapDrop), false)
	}
	var list []string
	for name, on := range set {
		if on && mine[name] {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func capName(n string) string { return "CAP_" + strings.TrimPrefix(strings.ToUpper(n), "CAP_") }

func hasAll(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return capName(n) == "CAP_ALL" })
}

// without leaves out ALL.
func without(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return capName(n) == "CAP_ALL" })
}
