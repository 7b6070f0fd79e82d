package core

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

func TestValidatePodStatus(t *testing.T) {
	over := func(code int32) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "c", State: ran(code, "")}}
	}
	again := []corev1.ContainerStatus{{Name: "c", State: running}}
	never := func(change func(*corev1.Container)) corev1.PodSpec {
		c := corev1.Container{Name: "c"}
		if change != nil {
			change(&c)
		}
		return corev1.PodSpec{RestartPolicy: "Never", Containers: []corev1.Container{c}}
	}
	for _, c := range []struct {
		name    string
		spec    corev1.PodSpec
		old, is corev1.PodStatus
		want    []string
	}{
		{"runs", corev1.PodSpec{}, corev1.PodStatus{QOSClass: "Burstable"}, corev1.PodStatus{QOSClass: "Burstable", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}, HostIP: "10.1.0.1", HostIPs: []corev1.HostIP{{IP: "10.1.0.1"}},
			Conditions: []corev1.PodCondition{{Type: "Ready"}, {Type: "a.b/c"}}, ContainerStatuses: again}, nil},
		{"of another class", corev1.PodSpec{}, corev1.PodStatus{QOSClass: "Burstable"}, corev1.PodStatus{QOSClass: "BestEffort"}, []string{"status.qosClass: Invalid value"}},
		{"odd words", corev1.PodSpec{}, corev1.PodStatus{}, corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: "a b"}}, NominatedNodeName: "A"},
			[]string{"metadata.conditions[0].Type: Invalid value", "status.nominatedNodeName: Invalid value"}},
		{"odd addresses", corev1.PodSpec{}, corev1.PodStatus{}, corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "10.0.0.1"}, {IP: "x"}}, HostIP: "10.1.0.1", HostIPs: []corev1.HostIP{{IP: "10.1.0.2"}}},
			[]string{"status.hostIPs[0].ip: Invalid value", "status.podIPs: Invalid value", "status.podIPs[1]: Duplicate value", "status.podIPs[2]: Invalid value"}},
		{"in two states", corev1.PodSpec{}, corev1.PodStatus{}, corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: running.Running, Waiting: &corev1.ContainerStateWaiting{}}}}},
			[]string{"status.containerStatuses[0].state: Forbidden"}},
		{"started again though over", never(nil), corev1.PodStatus{ContainerStatuses: over(1)}, corev1.PodStatus{ContainerStatuses: again}, []string{"status.containerStatuses[0].state: Forbidden"}},
		{"started again by its own policy", never(func(c *corev1.Container) { c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyOnFailure) }), corev1.PodStatus{ContainerStatuses: over(1)}, corev1.PodStatus{ContainerStatuses: again}, nil},
		{"started again by a rule", never(func(c *corev1.Container) { c.RestartPolicyRules = make([]corev1.ContainerRestartRule, 1) }), corev1.PodStatus{ContainerStatuses: over(1)}, corev1.PodStatus{ContainerStatuses: again}, nil},
		{"succeeded and started again", corev1.PodSpec{RestartPolicy: "OnFailure"}, corev1.PodStatus{ContainerStatuses: over(0)}, corev1.PodStatus{ContainerStatuses: again}, []string{"status.containerStatuses[0].state: Forbidden"}},
		{"debugger started again", corev1.PodSpec{RestartPolicy: "Always"}, corev1.PodStatus{EphemeralContainerStatuses: over(1)}, corev1.PodStatus{EphemeralContainerStatuses: again}, []string{"status.ephemeralContainerStatuses[0].state: Forbidden"}},
		{"claims it does not have", corev1.PodSpec{}, corev1.PodStatus{}, corev1.PodStatus{ResourceClaimStatuses: []corev1.PodResourceClaimStatus{{Name: "a"}, {Name: "a"}}},
			[]string{"status.resourceClaimStatuses[0].name: Invalid value", "status.resourceClaimStatuses[1].name: Duplicate value", "status.resourceClaimStatuses[1].name: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, old := &corev1.Pod{Spec: c.spec, Status: c.is}, &corev1.Pod{Spec: c.spec, Status: c.old}
			if got := brief(Pods.ValidateStatus(p, old)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestServiceStatus(t *testing.T) {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: "LoadBalancer"}, Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
		{IP: "1.2.3.4"}, {Hostname: "1.2.3.4", IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}, {IP: "1.2.3.4", IPMode: ptr.To(corev1.LoadBalancerIPMode("Odd")), Ports: []corev1.PortStatus{{}}},
	}}}}
	Services.BeforeStatus(s, s)
	if m := s.Status.LoadBalancer.Ingress[0].IPMode; m == nil || *m != corev1.LoadBalancerIPModeVIP {
		t.Error("the mode of an address is not filled in")
	}
	const at = "status.loadBalancer.ingress"
	want := []string{at + "[1].hostname: Invalid value", at + "[1].ipMode: Forbidden", at + "[2].ipMode: Unsupported value", at + "[2].ports[0].port: Invalid value", at + "[2].ports[0].protocol: Unsupported value"}
	if got := brief(Services.ValidateStatus(s, s)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Spec.Type = "ClusterIP"
	if got := brief(Services.ValidateStatus(s, s)); got[0] != at+": Forbidden" {
		t.Errorf("got %q", got)
	}
}

func TestCoreWarnings(t *testing.T) {
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want []string // what warnings begin with
	}{
		{"headless service", Services, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, ExternalIPs: []string{"1.2.3.4"}, SessionAffinity: "ClientIP"}},
			[]string{`spec.externalIPs is ignored when spec.clusterIP is "None"`, "spec.SessionAffinity is ignored for headless services"}},
		{"service elsewhere", Services, &corev1.Service{Spec: corev1.ServiceSpec{Type: "ExternalName", ExternalIPs: []string{"1.2.3.4"}}}, []string{`spec.externalIPs is ignored when spec.type is "ExternalName"`}},
		{"service with odd addresses", Services, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"fd00:0::1"}, LoadBalancerSourceRanges: []string{"10.0.0.1/8"}}}, []string{"spec.clusterIPs[0]: ", "spec.loadBalancerSourceRanges[0]: "}},
		{"node with an odd range", Nodes, &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{"10.0.0.1/8"}}}, []string{"spec.podCIDRs[0]: "}},
		{"account that names its secrets", ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}}},
			[]string{"metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+"}},
		{"service", Services, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.0.0.1"}}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.of.Warn(c.obj, nil)
			if len(got) != len(c.want) {
				t.Fatalf("warned %q", got)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("warned %q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}
