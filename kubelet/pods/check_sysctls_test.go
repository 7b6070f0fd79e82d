package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSysctls(t *testing.T) {
	unsafe := []string{"kernel.msg*", "net.core.somaxconn", "net/ipv4/conf/*"}
	for name, tc := range map[string]struct {
		ctl  string
		spec corev1.PodSpec
		want string
	}{
		"safe":                       {ctl: "kernel.shm_rmid_forced"},
		"safe, with slashes":         {ctl: "net/ipv4/tcp_syncookies"},
		"allowed":                    {ctl: "net.core.somaxconn"},
		"allowed by pattern":         {ctl: "kernel.msgmax"},
		"a device with a dot":        {ctl: "net/ipv4/conf/eth0.1/forwarding"},
		"neither":                    {ctl: "kernel.shmmax", want: `forbidden sysctl: "kernel.shmmax" not allowlisted`},
		"the node's":                 {ctl: "vm.swappiness", want: `forbidden sysctl: "vm.swappiness" not allowlisted`},
		"the node's, with slashes":   {ctl: "vm/swappiness", want: `forbidden sysctl: "vm.swappiness" not allowlisted`},
		"longer than what is safe":   {ctl: "kernel.shm_rmid_forced.x", want: `forbidden sysctl: "kernel.shm_rmid_forced.x" not allowlisted`},
		"on the node's network":      {ctl: "net.ipv4.tcp_syncookies", spec: corev1.PodSpec{HostNetwork: true}, want: `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled`},
		"in the node's IPC":          {ctl: "kernel.msgmax", spec: corev1.PodSpec{HostIPC: true}, want: `forbidden sysctl: "kernel.msgmax" not allowed with host ipc enabled`},
		"IPC, on the node's network": {ctl: "kernel.msgmax", spec: corev1.PodSpec{HostNetwork: true}},
	} {
		tc.spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: tc.ctl, Value: "1"}}}
		no := sysctls(admission{cfg: &Config{UnsafeSysctls: unsafe}, pod: &corev1.Pod{Spec: tc.spec}})
		if (no != nil) != (tc.want != "") || no != nil && (no.reason != "SysctlForbidden" || no.message != tc.want) {
			t.Errorf("%s: %+v", name, no)
		}
	}
	if no := sysctls(admission{cfg: &Config{}, pod: &corev1.Pod{}}); no != nil {
		t.Errorf("a pod without any: %+v", no)
	}
}

func TestCheckSysctls(t *testing.T) {
	if err := CheckSysctls([]string{"kernel.shm*", "kernel.msgmax", "net.*", "net.core.somaxconn", "fs.mqueue.*", "kernel.sem", "net/ipv4/*"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "*", "kernel.*", "vm.swappiness", "net.*.x", "kernel.sem*x"} {
		if CheckSysctls([]string{bad}) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
