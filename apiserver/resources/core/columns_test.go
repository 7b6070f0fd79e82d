//lint:file-ignore SA1019 Endpoints are deprecated, and served as long as Kubernetes serves them.

package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/registry"
)

// cells are the columns of an object by name.
func cells(r *registry.Resource, obj registry.Object) map[string]string {
	out := map[string]string{}
	for i, v := range r.Cells(obj) {
		out[r.Columns[i].Name] = fmt.Sprint(v)
	}
	return out
}

func waiting(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func ran(code int32, reason string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}
}

var running = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}

func TestPodColumns(t *testing.T) {
	now := metav1.Now()
	always := corev1.ContainerRestartPolicyAlways
	started := true
	type status = []corev1.ContainerStatus
	for _, c := range []struct {
		name                    string
		change                  func(*corev1.Pod)
		init, main              status
		ready, status, restarts string
	}{
		{"pending", nil, nil, nil, "0/2", "Pending", "0"},
		{"gated", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: corev1.PodReasonSchedulingGated}}
		}, nil, nil, "0/2", "SchedulingGated", "0"},
		{"creating", nil, nil, status{{State: waiting("ContainerCreating")}, {State: waiting("ContainerCreating")}}, "0/2", "ContainerCreating", "0"},
		{"running", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, nil, status{{State: running, Ready: true}, {State: running, Ready: true}}, "2/2", "Running", "0"},
		{"not ready", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, nil, status{{State: running, Ready: true}, {State: running}}, "1/2", "Running", "0"},
		{"crashing", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, nil,
			status{{State: running, Ready: true}, {State: waiting("CrashLoopBackOff"), RestartCount: 3}}, "1/2", "CrashLoopBackOff", "3"},
		{"restarted", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, nil,
			status{{State: running, Ready: true, RestartCount: 2, LastTerminationState: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(time.Now().Add(-30 * time.Second))},
			}}, {State: running, Ready: true}}, "2/2", "Running", "2 (30s ago)"},
		{"succeeded", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, nil, status{{State: ran(0, "Completed")}, {State: ran(0, "Completed")}}, "0/2", "Completed", "0"},
		{"one over, one not ready", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, nil, status{{State: ran(0, "Completed")}, {State: running, Ready: true}}, "1/2", "NotReady", "0"},
		{"one over, pod ready", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}, nil, status{{State: ran(0, "Completed")}, {State: running, Ready: true}}, "1/2", "Running", "0"},
		{"ended without a word", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, nil, status{{State: ran(3, "")}}, "0/2", "ExitCode:3", "0"},
		{"killed without a word", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, nil,
			status{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Signal: 9}}}}, "0/2", "Signal:9", "0"},
		{"evicted", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }, nil, nil, "0/2", "Evicted", "0"},
		{"being deleted", func(p *corev1.Pod) { p.Status.Phase, p.DeletionTimestamp = corev1.PodRunning, &now }, nil,
			status{{State: running, Ready: true}, {State: running, Ready: true}}, "2/2", "Terminating", "0"},
		{"over and being deleted", func(p *corev1.Pod) { p.Status.Phase, p.DeletionTimestamp = corev1.PodSucceeded, &now }, nil, nil, "0/2", "Succeeded", "0"},
		{"deleted on a lost node", func(p *corev1.Pod) { p.Status.Reason, p.DeletionTimestamp = "NodeLost", &now }, nil, nil, "0/2", "Unknown", "0"},

		{"first init container", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "a"}, {Name: "b"}} },
			status{{Name: "a", State: running}, {Name: "b", State: waiting("PodInitializing")}}, status{{State: waiting("PodInitializing")}}, "0/2", "Init:0/2", "0"},
		{"second init container", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "a"}, {Name: "b"}} },
			status{{Name: "a", State: ran(0, "Completed")}, {Name: "b", State: waiting("PodInitializing")}}, nil, "0/2", "Init:1/2", "0"},
		{"init container failing", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "a"}} },
			status{{Name: "a", State: ran(1, "Error"), RestartCount: 4}}, nil, "0/2", "Init:Error", "4"},
		{"init container failing without a word", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "a"}} },
			status{{Name: "a", State: ran(7, "")}}, nil, "0/2", "Init:ExitCode:7", "0"},
		{"init container crashing", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "a"}} },
			status{{Name: "a", State: waiting("CrashLoopBackOff")}}, nil, "0/2", "Init:CrashLoopBackOff", "0"},
		{"restarts of init containers that are over do not count", func(p *corev1.Pod) {
			p.Spec.InitContainers, p.Status.Phase = []corev1.Container{{Name: "a"}}, corev1.PodRunning
		}, status{{Name: "a", State: ran(0, "Completed"), RestartCount: 4}}, status{{State: running, Ready: true}, {State: running, Ready: true}}, "2/2", "Running", "0"},
		{"sidecar", func(p *corev1.Pod) {
			p.Spec.InitContainers, p.Status.Phase = []corev1.Container{{Name: "a", RestartPolicy: &always}}, corev1.PodRunning
		}, status{{Name: "a", State: running, Ready: true, Started: &started, RestartCount: 1}}, status{{State: running, Ready: true}, {State: running, Ready: true}}, "3/3", "Running", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{Containers: make([]corev1.Container, 2)}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
			if c.change != nil {
				c.change(p)
			}
			p.Status.InitContainerStatuses, p.Status.ContainerStatuses = c.init, c.main
			got := cells(Pods, p)
			if got["Ready"] != c.ready || got["Status"] != c.status || got["Restarts"] != c.restarts {
				t.Errorf("%s %s %s, want %s %s %s", got["Ready"], got["Status"], got["Restarts"], c.ready, c.status, c.restarts)
			}
		})
	}
	p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n", ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "a"}, {ConditionType: "b"}}}, Status: corev1.PodStatus{
		PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, Conditions: []corev1.PodCondition{{Type: "a", Status: corev1.ConditionTrue}},
	}}
	if got := cells(Pods, p); got["IP"] != "10.0.0.1" || got["Node"] != "n" || got["Nominated Node"] != "<none>" || got["Readiness Gates"] != "1/2" {
		t.Errorf("wide columns %v", got)
	}
}

func TestOtherColumns(t *testing.T) {
	ago := metav1.NewTime(time.Now().Add(-90 * time.Second))
	ready := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want map[string]string
	}{
		{"node", Nodes, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
			Spec:       corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{Conditions: ready, Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "198.18.0.2"}},
				NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1"}},
		}, map[string]string{"Status": "Ready,SchedulingDisabled", "Roles": "control-plane,worker", "Version": "v1", "Internal-IP": "198.18.0.2", "External-IP": "<none>", "OS-Image": "<unknown>"}},
		{"node that says nothing", Nodes, &corev1.Node{}, map[string]string{"Status": "Unknown", "Roles": "<none>"}},
		{"service", Services, &corev1.Service{Spec: corev1.ServiceSpec{Type: "NodePort", ClusterIP: "10.96.0.5", Selector: map[string]string{"b": "2", "a": "1"},
			Ports: []corev1.ServicePort{{Port: 80, NodePort: 30000, Protocol: "TCP"}, {Port: 53, Protocol: "UDP"}}}},
			map[string]string{"Type": "NodePort", "Cluster-IP": "10.96.0.5", "External-IP": "<none>", "Port(s)": "80:30000/TCP,53/UDP", "Selector": "a=1,b=2"}},
		{"balanced service", Services, &corev1.Service{Spec: corev1.ServiceSpec{Type: "LoadBalancer"}}, map[string]string{"External-IP": "<pending>", "Cluster-IP": "<none>"}},
		{"service elsewhere", Services, &corev1.Service{Spec: corev1.ServiceSpec{Type: "ExternalName", ExternalName: "a.b"}}, map[string]string{"External-IP": "a.b", "Port(s)": "<none>"}},
		{"endpoints", Endpoints, &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "1.1.1.1"}, {IP: "1.1.1.2"}}, Ports: []corev1.EndpointPort{{Port: 80}, {Port: 81}},
		}}}, map[string]string{"Endpoints": "1.1.1.1:80,1.1.1.2:80,1.1.1.1:81 + 1 more..."}},
		{"no endpoints", Endpoints, &corev1.Endpoints{}, map[string]string{"Endpoints": "<none>"}},
		{"config map", ConfigMaps, &corev1.ConfigMap{Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"b": nil}}, map[string]string{"Data": "2"}},
		{"event", Events, &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p"}, Message: " hello\n", Reason: "Why", Type: "Normal",
			Source: corev1.EventSource{Component: "kubelet", Host: "n"}, FirstTimestamp: ago, LastTimestamp: ago, Count: 3,
		}, map[string]string{"Last Seen": "90s", "Type": "Normal", "Reason": "Why", "Object": "pod/p", "Message": "hello", "Source": "kubelet, n", "First Seen": "90s", "Count": "3", "Name": "e"}},
		{"newer event", Events, &corev1.Event{EventTime: metav1.NewMicroTime(ago.Time), ReportingController: "c", Series: &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(ago.Time)}},
			map[string]string{"Last Seen": "90s", "First Seen": "90s", "Source": "c", "Count": "7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := cells(c.of, c.obj)
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
		})
	}
	var names []string
	for _, c := range Events.Columns {
		if c.Priority == 0 {
			names = append(names, c.Name)
		}
	}
	if !slices.Equal(names, []string{"Last Seen", "Type", "Reason", "Object", "Message"}) {
		t.Errorf("events show %v", names)
	}
}
