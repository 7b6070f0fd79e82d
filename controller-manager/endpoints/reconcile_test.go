//lint:file-ignore SA1019 Endpoints are deprecated for users; this room serves those who still read them.

package endpoints

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Labels: map[string]string{"app": "web"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.9", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("web")}},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func backend(ip string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p" + ip, UID: types.UID(ip)},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func port(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = n }
}

// text is a readable form of subsets: ready addresses, then others after a bar, then ports.
func text(subsets []corev1.EndpointSubset) string {
	var out []string
	for _, s := range subsets {
		var part []string
		for _, a := range s.Addresses {
			part = append(part, a.IP)
		}
		part = append(part, "|")
		for _, a := range s.NotReadyAddresses {
			part = append(part, a.IP)
		}
		for _, p := range s.Ports {
			part = append(part, fmt.Sprintf(":%d/%s", p.Port, p.Name))
		}
		out = append(out, strings.Join(part, " "))
	}
	return strings.Join(out, "; ")
}

func TestSubsets(t *testing.T) {
	now := metav1.Now()
	for name, tc := range map[string]struct {
		svc  *corev1.Service
		pods []*corev1.Pod
		want string
	}{
		"ready and not":          {service(), []*corev1.Pod{backend("10.0.0.2"), backend("10.0.0.1"), backend("10.0.0.3", unready)}, "10.0.0.1 10.0.0.2 | 10.0.0.3 :8080/http"},
		"by the ports they have": {service(), []*corev1.Pod{backend("10.0.0.1", port(9090)), backend("10.0.0.2")}, "10.0.0.2 | :8080/http; 10.0.0.1 | :9090/http"},
		"no such port":           {service(), []*corev1.Pod{backend("10.0.0.1", func(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil })}, ""},
		"no address yet":         {service(), []*corev1.Pod{backend("", func(p *corev1.Pod) { p.Status.PodIPs = nil })}, ""},
		"finished":               {service(), []*corev1.Pod{backend("10.0.0.1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })}, ""},
		"going":                  {service(), []*corev1.Pod{backend("10.0.0.1", func(p *corev1.Pod) { p.DeletionTimestamp = &now })}, ""},
		"all, when asked for": {service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }),
			[]*corev1.Pod{backend("10.0.0.1", unready), backend("10.0.0.2", func(p *corev1.Pod) { p.DeletionTimestamp = &now })}, "10.0.0.1 10.0.0.2 | :8080/http"},
		"headless without ports": {service(func(s *corev1.Service) { s.Spec.Ports = nil }), []*corev1.Pod{backend("10.0.0.1")}, "10.0.0.1 |"},
		"the Service's family": {service(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }),
			[]*corev1.Pod{backend("10.0.0.1", func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"}) }), backend("10.0.0.2")}, "fd00::1 | :8080/http"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(subsets(tc.svc, tc.pods)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestNextIsQuiet(t *testing.T) {
	svc, pods := service(), []*corev1.Pod{backend("10.0.0.1")}
	e, changed := next(svc, nil, subsets(svc, pods), time.Now())
	if !changed || e.Annotations[corev1.EndpointsLastChangeTriggerTime] == "" || e.Labels["app"] != "web" {
		t.Fatalf("%v %+v", changed, e)
	}
	if _, changed := next(svc, e, subsets(svc, pods), time.Now().Add(time.Hour)); changed {
		t.Error("writes though nothing changed but the time")
	}
	if _, changed := next(svc, e, subsets(svc, append(pods, backend("10.0.0.2"))), time.Time{}); !changed {
		t.Error("does not write a new address")
	}
}

func TestNextCutsAtCapacity(t *testing.T) {
	svc := service()
	var pods []*corev1.Pod
	for i := range capacity {
		pods = append(pods, backend(fmt.Sprintf("10.0.%d.%d", i/250, i%250)))
	}
	pods = append(pods, backend("10.1.0.1", unready))
	e, _ := next(svc, nil, subsets(svc, pods), time.Time{})
	if n := len(e.Subsets[0].Addresses); n != capacity || len(e.Subsets[0].NotReadyAddresses) != 0 {
		t.Errorf("%d ready, %d not", n, len(e.Subsets[0].NotReadyAddresses))
	}
	if e.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Error("does not say that addresses are missing")
	}
	e, _ = next(svc, e, subsets(svc, pods[:3]), time.Time{})
	if e.Annotations[corev1.EndpointsOverCapacity] != "" {
		t.Error("still says that addresses are missing")
	}
}
