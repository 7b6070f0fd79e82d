package pods

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/containers"
)

func TestOOMScore(t *testing.T) {
	resources := func(request, limit string) corev1.Container {
		c := corev1.Container{}
		c.Resources.Requests = corev1.ResourceList{"memory": resource.MustParse(request), "cpu": resource.MustParse("1")}
		if limit != "" {
			c.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse(limit), "cpu": resource.MustParse("1")}
		}
		return c
	}
	for _, tc := range []struct {
		name     string
		c        corev1.Container
		priority int32
		want     int
	}{
		{"asks for nothing", corev1.Container{}, 0, 1000},
		{"guaranteed", resources("1Gi", "1Gi"), 0, -997},
		{"a quarter of the node", resources("2Gi", ""), 0, 750},
		{"more than the node", resources("20Gi", ""), 0, 3},
		{"next to nothing", resources("1", ""), 0, 999},
		{"critical", corev1.Container{}, 2000000000, -997},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{tc.c}, Priority: &tc.priority}}
		if got := oomScore(p, &tc.c, 8<<30); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestSecurity(t *testing.T) {
	runtimeDefault := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	file := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("../../etc/own.json")}
	for _, tc := range []struct {
		name string
		pod  *corev1.PodSecurityContext
		c    *corev1.SecurityContext
		want containers.Security
	}{
		{"nothing said", nil, nil, containers.Security{Seccomp: "Unconfined"}},
		{"of the pod", &corev1.PodSecurityContext{RunAsUser: new(int64(7)), RunAsNonRoot: new(true), FSGroup: new(int64(9)), SupplementalGroups: []int64{8}, SeccompProfile: runtimeDefault}, nil,
			containers.Security{RunAsUser: new(int64(7)), RunAsNonRoot: true, SupplementalGroups: []int64{8, 9}, Seccomp: "RuntimeDefault"}},
		{"the container's own wins", &corev1.PodSecurityContext{RunAsUser: new(int64(7)), RunAsNonRoot: new(true), SeccompProfile: runtimeDefault},
			&corev1.SecurityContext{RunAsUser: new(int64(0)), RunAsGroup: new(int64(1)), RunAsNonRoot: new(false), SeccompProfile: file, AllowPrivilegeEscalation: new(false),
				ReadOnlyRootFilesystem: new(true), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}},
			containers.Security{RunAsUser: new(int64(0)), RunAsGroup: new(int64(1)), Seccomp: "Localhost", SeccompPath: "/profiles/etc/own.json", NoNewPrivileges: true, ReadOnlyRoot: true,
				CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}}},
		{"privileged", nil, &corev1.SecurityContext{Privileged: new(true)}, containers.Security{Privileged: true, Seccomp: "Unconfined"}},
	} {
		got, err := security(&corev1.Pod{Spec: corev1.PodSpec{SecurityContext: tc.pod}}, &corev1.Container{SecurityContext: tc.c}, "/profiles")
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
	bad := &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}}
	if _, err := security(&corev1.Pod{}, &corev1.Container{SecurityContext: bad}, "/profiles"); err == nil {
		t.Error("a profile without a file is accepted")
	}
}
