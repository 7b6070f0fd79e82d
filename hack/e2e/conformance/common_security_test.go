package conformance

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rows about what a process in a pod may do and whom it knows: user, rights, root, sysctls, /etc/hosts. What the kernel says of a process stands
// in its /proc/self/status.

const ownStatus = "read=/proc/self/status"

// confined gives the pod's container a security context.
func confined(pod *corev1.Pod, sc *corev1.SecurityContext) *corev1.Pod {
	pod.Spec.Containers[0].SecurityContext = sc
	return pod
}

// statusOf is one line of what the kernel says of the process that the pod has run: the words behind NAME:.
func (r *row) statusOf(ns, pod, name string) []string {
	r.Helper()
	said := r.logs(ns, pod)
	for line := range strings.Lines(said) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == name+":" {
			return words[1:]
		}
	}
	r.Fatalf("pod %s did not say %s: %q", pod, name, said)
	return nil
}

// runsAs makes a pod that ends, and checks user and group of its process: real, effective, saved and of the file system.
func (r *row) runsAs(ns string, pod *corev1.Pod, user, group int64) {
	r.Helper()
	r.reaches(ns, pod, corev1.PodSucceeded)
	four := func(id int64) []string {
		s := strconv.FormatInt(id, 10)
		return []string{s, s, s, s}
	}
	r.equal("user of pod "+pod.Name, r.statusOf(ns, pod.Name, "Uid"), four(user))
	r.equal("group of pod "+pod.Name, r.statusOf(ns, pod.Name, "Gid"), four(group))
}

// CN-087
func runsAsUser(r *row) {
	ns := r.namespace()
	r.runsAs(ns, confined(doer("as-nobody", ownStatus), &corev1.SecurityContext{RunAsUser: new(int64(65534)), RunAsGroup: new(int64(65534))}), 65534, 65534)
	r.reaches(ns, confined(doer("as-user", ownStatus), &corev1.SecurityContext{RunAsUser: new(int64(65534))}), corev1.PodSucceeded)
	r.equal("user without a group", r.statusOf(ns, "as-user", "Uid")[0], "65534")
}

// CN-088: the process has not the rights that a privileged one has over the node's network, mounts and devices, and may not write to its settings.
func unprivileged(r *row) {
	ns := r.namespace()
	pod := application("unprivileged", "look", "write:/proc/sys/net/ipv4/ip_forward", "write:/proc/irq/default_smp_affinity", "content:/proc/self/status")
	r.reaches(ns, confined(pod, &corev1.SecurityContext{Privileged: new(false)}), corev1.PodSucceeded)
	said := r.logs(ns, pod.Name)
	for _, want := range []string{"write of /proc/sys/net/ipv4/ip_forward: (read-only file system)", "write of /proc/irq/default_smp_affinity: (read-only file system)"} {
		if !strings.Contains(said, want) {
			r.Errorf("it did not say %q but %q", want, said)
		}
	}
	caps, err := strconv.ParseUint(r.statusOf(ns, pod.Name, "CapBnd")[0], 16, 64)
	r.must(err, "reading capabilities")
	for name, bit := range map[string]int{"NET_ADMIN": 12, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PTRACE": 19, "SYS_ADMIN": 21} {
		r.equal("the process may have "+name, caps&(1<<bit) != 0, false)
	}
}

// CN-089
func writableRoot(r *row) {
	pod := application("writable", "look", "-text=yes", "write:/checkfile", "content:/checkfile")
	r.says(r.namespace(), confined(pod, &corev1.SecurityContext{ReadOnlyRootFilesystem: new(false)}), "write of /checkfile: written", "content of /checkfile: yes")
}

// CN-045
func readOnlyRoot(r *row) {
	pod := application("read-only", "look", "-text=yes", "write:/file", "write:/dev/shm/file", "content:/file")
	r.says(r.namespace(), confined(pod, &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true)}),
		"write of /file: (read-only file system)", "content of /file: (no such file or directory)")
}

// CN-090: a process that may not gain rights is told so by the kernel, which then lets no program give it any; by default it is not.
func noEscalation(r *row) {
	ns := r.namespace()
	for name, tc := range map[string]struct {
		may  *bool
		want string
	}{"unsaid": {nil, "0"}, "allowed": {new(true), "0"}, "refused": {new(false), "1"}} {
		pod := confined(doer(name, ownStatus), &corev1.SecurityContext{RunAsUser: new(int64(1000)), RunAsGroup: new(int64(1000)), AllowPrivilegeEscalation: tc.may})
		r.runsAs(ns, pod, 1000, 1000)
		r.equal("no new rights, escalation "+name, r.statusOf(ns, name, "NoNewPrivs"), []string{tc.want})
		r.equal("rights in force, escalation "+name, r.statusOf(ns, name, "CapEff"), []string{"0000000000000000"})
	}
}

// tuned gives a pod sysctls, NAME=VALUE.
func tuned(pod *corev1.Pod, settings ...string) *corev1.Pod {
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		pod.Spec.SecurityContext.Sysctls = append(pod.Spec.SecurityContext.Sysctls, corev1.Sysctl{Name: name, Value: value})
	}
	return pod
}

// CN-091: names that cannot be are refused, each by its place; those that a node may refuse are not the API server's business.
func invalidSysctls(r *row) {
	pod := tuned(application("tuned"), "foo-=bar", "kernel.shmmax=100000000", "safe-and-unsafe=100000000", "bar..=42")
	_, err := r.kube.CoreV1().Pods(r.namespace()).Create(r.ctx, pod, metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonInvalid, "creating a pod with sysctls that cannot be")
	for text, want := range map[string]bool{`Invalid value: "foo-"`: true, `Invalid value: "bar.."`: true, "safe-and-unsafe": false, "kernel.shmmax": false} {
		r.equal(fmt.Sprintf("the refusal says %q", text), strings.Contains(err.Error(), text), want)
	}
}

// CN-092: a safe one is set, written either way; one that the node does not allow fails the pod.
func safeSysctls(r *row) {
	ns := r.namespace()
	r.outputs(ns, tuned(doer("dots", "read=/proc/sys/kernel/shm_rmid_forced"), "kernel.shm_rmid_forced=1"), "1")
	r.outputs(ns, tuned(doer("slashes", "read=/proc/sys/kernel/shm_rmid_forced"), "kernel/shm_rmid_forced=1"), "1")
	r.outputs(ns, doer("none", "read=/proc/sys/kernel/shm_rmid_forced"), "0")
	r.podIs(ns, tuned(application("unsafe"), "kernel.msgmax=10000000000"), "is refused by its node", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "SysctlForbidden"
	})
}

// NODE-007: user and group of the container, over those of the pod.
func userOfContainer(r *row) {
	pod := confined(doer("by-container", ownStatus), &corev1.SecurityContext{RunAsUser: new(int64(1001)), RunAsGroup: new(int64(2002))})
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}
	r.runsAs(r.namespace(), pod, 1001, 2002)
}

// NODE-008
func userOfPod(r *row) {
	pod := doer("by-pod", ownStatus)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1001)), RunAsGroup: new(int64(2002))}
	r.runsAs(r.namespace(), pod, 1001, 2002)
}

// CN-046
func hostAliases(r *row) {
	pod := doer("aliased", "read=/etc/hosts")
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "123.45.67.89", Hostnames: []string{"foo", "bar"}}}
	r.outputs(r.namespace(), pod, "# Entries added by HostAliases.", "123.45.67.89\tfoo\tbar")
}

// CN-047: /etc/hosts is the kubelet's in every container, but where a volume is mounted on it, and is the node's own on the node's network.
func managedHosts(r *row) {
	ns := r.namespace()
	const managed = "# Kubernetes-managed hosts file."
	first := func(pod, container string) string {
		r.Helper()
		b, err := r.kube.CoreV1().Pods(ns).GetLogs(pod, &corev1.PodLogOptions{Container: container}).DoRaw(r.ctx)
		r.must(err, "reading the log of container "+container)
		line, _, _ := strings.Cut(string(b), "\n")
		return line
	}
	with := func(name string, hostNetwork bool) {
		r.Helper()
		pod := doer(name, "read=/etc/hosts")
		pod.Spec.HostNetwork = hostNetwork
		pod.Spec.Volumes = []corev1.Volume{{Name: "own", VolumeSource: corev1.VolumeSource{
			DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "hosts", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}}}}
		second, third := pod.Spec.Containers[0], pod.Spec.Containers[0]
		second.Name, third.Name = "second", "third"
		third.VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: "/etc/hosts", SubPath: "hosts"}}
		pod.Spec.Containers = append(pod.Spec.Containers, second, third)
		r.reaches(ns, pod, corev1.PodSucceeded)
	}
	with("managed", false)
	r.equal("the first container's", first("managed", "c"), managed)
	r.equal("the second container's", first("managed", "second"), managed)
	r.equal("one with a volume there", first("managed", "third"), "managed")
	with("on-node", true)
	for _, c := range []string{"c", "second", "third"} {
		if got := first("on-node", c); got == managed {
			r.Errorf("container %s on the node's network has %q", c, got)
		}
	}
}
