package pods

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/network"
)

func TestWhatTheNetworkIsTold(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	port := func(host, container int32, ip string, proto corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{HostPort: host, ContainerPort: container, HostIP: ip, Protocol: proto}
	}
	holder := func(policy *corev1.ContainerRestartPolicy, ports ...corev1.ContainerPort) corev1.Container {
		return corev1.Container{Name: "c", RestartPolicy: policy, Ports: ports}
	}
	for name, c := range map[string]struct {
		meta  map[string]string
		spec  corev1.PodSpec
		ports []network.HostPort
		width network.Bandwidth
		err   string
	}{
		"nothing asked": {spec: corev1.PodSpec{Containers: []corev1.Container{holder(nil, port(0, 80, "", "TCP"))}}},
		"containers and sidecars, no init container": {
			spec: corev1.PodSpec{
				InitContainers: []corev1.Container{holder(nil, port(1, 1, "", "TCP")), holder(&always, port(53, 5353, "", "UDP"))},
				Containers:     []corev1.Container{holder(nil, port(8080, 80, "", ""), port(8080, 80, "127.0.0.1", "SCTP")), holder(nil, port(8080, 80, "::1", "TCP"))},
			},
			ports: []network.HostPort{
				{Protocol: "UDP", Port: 53, ContainerPort: 5353}, {Protocol: "TCP", Port: 8080, ContainerPort: 80},
				{HostIP: netip.MustParseAddr("127.0.0.1"), Protocol: "SCTP", Port: 8080, ContainerPort: 80},
				{HostIP: netip.MustParseAddr("::1"), Protocol: "TCP", Port: 8080, ContainerPort: 80},
			},
		},
		"one port told twice": {
			spec:  corev1.PodSpec{Containers: []corev1.Container{holder(nil, port(80, 80, "", "TCP"), port(80, 80, "", ""))}},
			ports: []network.HostPort{{Protocol: "TCP", Port: 80, ContainerPort: 80}},
		},
		"a pod in the node's network has its ports": {
			meta: map[string]string{annotationEgress: "nonsense"},
			spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{holder(nil, port(80, 80, "", "TCP"))}},
		},
		"no address": {spec: corev1.PodSpec{Containers: []corev1.Container{holder(nil, port(80, 80, "here", "TCP"))}}, err: "reading hostIP of container c"},
		"bandwidth":  {meta: map[string]string{annotationIngress: "1M", annotationEgress: "10M"}, width: network.Bandwidth{Ingress: 1e6, Egress: 1e7}},
		"the bounds": {meta: map[string]string{annotationIngress: "1k", annotationEgress: "1P"}, width: network.Bandwidth{Ingress: 1e3, Egress: 1e15}},
		"too narrow": {meta: map[string]string{annotationIngress: "999"}, err: "reading pod bandwidth annotations: resource is unreasonably small (< 1kbit)"},
		"too wide":   {meta: map[string]string{annotationEgress: "1001T"}, err: "reading pod bandwidth annotations: resource is unreasonably large (> 1Pbit)"},
		"no number":  {meta: map[string]string{annotationEgress: "much"}, err: "reading pod bandwidth annotations: quantities must match"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Annotations: c.meta}, Spec: c.spec}
			got, err := joined(p, "/ns")
			if c.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.err) {
					t.Fatalf("got %v, want %s", err, c.err)
				}
				return
			}
			want := network.Pod{Key: "u", Namespace: "ns", Name: "p", NetNS: "/ns", HostPorts: c.ports, Bandwidth: c.width}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}
