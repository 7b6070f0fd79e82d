package pods

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
)

func TestSecurity(t *testing.T) {
	runtimeDefault := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	file := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("../../etc/own.json")}
	strict := corev1.SupplementalGroupsPolicyStrict
	armor := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: new("mine")}
	for _, tc := range []struct {
		name string
		cfg  Config
		pod  *corev1.PodSecurityContext
		c    *corev1.SecurityContext
		want containers.Security
	}{
		{"nothing said", Config{}, nil, nil, containers.Security{Seccomp: "Unconfined"}},
		{"nothing said, with a default", Config{SeccompDefault: true}, nil, nil, containers.Security{Seccomp: "RuntimeDefault"}},
		{"unconfined in spite of the default", Config{SeccompDefault: true}, nil,
			&corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}, containers.Security{Seccomp: "Unconfined"}},
		{"of the pod", Config{}, &corev1.PodSecurityContext{RunAsUser: new(int64(7)), RunAsNonRoot: new(true), FSGroup: new(int64(9)), SupplementalGroups: []int64{8}, SeccompProfile: runtimeDefault}, nil,
			containers.Security{RunAsUser: new(int64(7)), RunAsNonRoot: true, SupplementalGroups: []int64{8, 9}, Seccomp: "RuntimeDefault"}},
		{"the container's own wins", Config{}, &corev1.PodSecurityContext{RunAsUser: new(int64(7)), RunAsNonRoot: new(true), SeccompProfile: runtimeDefault},
			&corev1.SecurityContext{RunAsUser: new(int64(0)), RunAsGroup: new(int64(1)), RunAsNonRoot: new(false), SeccompProfile: file, AllowPrivilegeEscalation: new(false),
				ReadOnlyRootFilesystem: new(true), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}},
			containers.Security{RunAsUser: new(int64(0)), RunAsGroup: new(int64(1)), Seccomp: "Localhost", SeccompPath: "/kubelet/seccomp/etc/own.json", NoNewPrivileges: true, ReadOnlyRoot: true,
				CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}}},
		{"privileged", Config{}, nil, &corev1.SecurityContext{Privileged: new(true)}, containers.Security{Privileged: true, Seccomp: "Unconfined"}},
		{"groups of the pod alone", Config{}, &corev1.PodSecurityContext{SupplementalGroupsPolicy: &strict}, nil, containers.Security{StrictGroups: true, Seccomp: "Unconfined"}},
		{"labels", Config{}, &corev1.PodSecurityContext{AppArmorProfile: armor, SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c1"}},
			&corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount), SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c2"}},
			containers.Security{AppArmor: "Localhost", AppArmorProfile: "mine", SELinux: &containers.SELinux{Level: "s0:c2"}, UnmaskedProc: true, Seccomp: "Unconfined"}},
	} {
		tc.cfg.Root = "/kubelet"
		got, err := tc.cfg.security(&corev1.Pod{Spec: corev1.PodSpec{SecurityContext: tc.pod}}, &corev1.Container{SecurityContext: tc.c})
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
	bad := &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}}
	if _, err := new(Config).security(&corev1.Pod{}, &corev1.Container{SecurityContext: bad}); err == nil {
		t.Error("a profile without a file is accepted")
	}
}

func TestAppArmor(t *testing.T) {
	armored := func(kind corev1.AppArmorProfileType) *corev1.AppArmorProfile {
		return &corev1.AppArmorProfile{Type: kind}
	}
	annotated := func(text string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Annotations: map[string]string{"container.apparmor.security.beta.kubernetes.io/c": text}}
	}
	for name, tc := range map[string]struct {
		meta metav1.ObjectMeta
		pod  *corev1.AppArmorProfile
		own  *corev1.AppArmorProfile
		want corev1.AppArmorProfileType
	}{
		"nothing said":         {},
		"the pod's":            {pod: armored("RuntimeDefault"), want: "RuntimeDefault"},
		"the container's":      {pod: armored("RuntimeDefault"), own: armored("Unconfined"), want: "Unconfined"},
		"the annotation's":     {meta: annotated("localhost/mine"), pod: armored("RuntimeDefault"), want: "Localhost"},
		"annotated unconfined": {meta: annotated("unconfined"), want: "Unconfined"},
		"annotated usual":      {meta: annotated("runtime/default"), own: armored("Localhost"), want: "Localhost"},
	} {
		p := &corev1.Pod{ObjectMeta: tc.meta, Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{AppArmorProfile: tc.pod},
			Containers: []corev1.Container{{Name: "c", SecurityContext: &corev1.SecurityContext{AppArmorProfile: tc.own}}}}}
		if tc.own == nil {
			p.Spec.Containers[0].SecurityContext = nil
		}
		got := corev1.AppArmorProfileType("")
		if profile := appArmor(p, &p.Spec.Containers[0]); profile != nil {
			got = profile.Type
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		refused := tc.want != "" && tc.want != "Unconfined"
		no := enforcesAppArmor(admission{cfg: &Config{}, pod: p})
		if (no != nil) != refused || no != nil && (no.reason != "AppArmor" || no.message != "Cannot enforce AppArmor: AppArmor is not enabled on the host") {
			t.Errorf("%s: without AppArmor: %+v", name, no)
		}
		if no := enforcesAppArmor(admission{cfg: &Config{AppArmor: true}, pod: p}); no != nil {
			t.Errorf("%s: with AppArmor: %+v", name, no)
		}
	}
}
