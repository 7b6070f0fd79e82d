package pods_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// said is what a container that has ended left as its message.
func said(p *corev1.Pod, name string) (string, bool) {
	if p == nil {
		return "", false
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, cs := range list {
			if cs.Name == name && cs.State.Terminated != nil {
				return strings.TrimSpace(cs.State.Terminated.Message), true
			}
		}
	}
	return "", false
}

func tells(name, script string) corev1.Container {
	return shell(name, "{ "+script+"; } >/dev/termination-log 2>&1")
}

// TestSpaces: pods that share processes, have users or a whole name of their own, and a container that debugs another; then nothing is left.
func TestSpaces(t *testing.T) {
	n := newNode(t)
	if err := os.Chmod(filepath.Dir(n.daemon.Dir), 0o711); err != nil { // as a real node's folders are: users whom the node does not know walk there
		t.Fatal(err)
	}
	specs := map[string]struct {
		change func(*corev1.PodSpec)
		script string
		want   string
	}{
		"own":    {func(*corev1.PodSpec) {}, "grep -c sh /proc/1/cmdline", "1"},
		"shared": {func(s *corev1.PodSpec) { s.ShareProcessNamespace = new(true) }, "cat /proc/1/cmdline", "/pause\x00"},
		"named":  {func(s *corev1.PodSpec) { s.SetHostnameAsFQDN, s.Subdomain = new(true), "sub" }, "hostname; echo $HOSTNAME; cat /etc/hostname", strings.TrimSpace(strings.Repeat("named.sub.shop.svc.cluster.local\n", 3))},
		"nobody": {func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), SupplementalGroups: []int64{7}, SupplementalGroupsPolicy: new(corev1.SupplementalGroupsPolicyStrict)}
		}, "id -G", "1000 7"},
	}
	if n.rt.FeaturesOf("").UserNamespaces {
		specs["users"] = struct {
			change func(*corev1.PodSpec)
			script string
			want   string
		}{func(s *corev1.PodSpec) { s.HostUsers = new(false) }, "id -u; awk '{print $2}' /proc/self/uid_map; touch /etc/x; echo $?", "0\n65536\n0"}
	}
	for name, tc := range specs {
		p := newPod(name, tells("c", tc.script))
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		tc.change(&p.Spec)
		n.api.create(p)
		got := n.api.until(p.UID, "ended", func(p *corev1.Pod) bool { _, over := said(p, "c"); return over })
		if text, _ := said(got, "c"); text != tc.want {
			t.Errorf("%s says %q, want %q", name, text, tc.want)
		}
		if u := got.Status.ContainerStatuses[0].User; name == "nobody" && (u == nil || u.Linux.UID != 1000 || len(u.Linux.SupplementalGroups) != 2) {
			t.Errorf("%s: the status tells the user %+v", name, u)
		}
		n.api.delete(p.UID, 1)
		n.api.until(p.UID, "gone", gone)
	}
	debugged := newPod("debugged", shell("target", "trap 'exit 0' USR1; while true; do usleep 50000; done"))
	n.api.create(debugged)
	n.api.until(debugged.UID, "ready", ready)
	n.api.edit(debugged.UID, func(p *corev1.Pod) {
		look := tells("debugger", "cat /proc/1/cmdline")
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{TargetContainerName: "target", EphemeralContainerCommon: corev1.EphemeralContainerCommon(look)}}
	})
	got := n.api.until(debugged.UID, "looked at", func(p *corev1.Pod) bool { _, over := said(p, "debugger"); return over })
	if text, _ := said(got, "debugger"); !strings.Contains(text, "usleep 50000") {
		t.Errorf("the debugger sees as the first process %q", text)
	}
	n.api.delete(debugged.UID, 1)
	n.api.until(debugged.UID, "gone", gone)

	unsafe := newPod("unsafe", shell("c", "true"))
	unsafe.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.msgmax", Value: "1"}}}
	n.api.create(unsafe)
	refused := n.api.until(unsafe.UID, "refused", func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == corev1.PodFailed })
	if refused.Status.Reason != "SysctlForbidden" {
		t.Errorf("the status of a pod with an unsafe sysctl is %+v", refused.Status)
	}
	n.api.delete(unsafe.UID, 1)
	n.api.until(unsafe.UID, "gone", gone)
	n.untilNothing()
}
