package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 5e8, time.UTC)

func running(name string, attempt int) containers.Container {
	return containers.Container{ID: fmt.Sprintf("%s-%d", name, attempt), Name: name, Attempt: attempt, State: containers.Running, Started: t0, ImageRef: "img@sha256:1"}
}

func exited(name string, attempt, code int) containers.Container {
	c := running(name, attempt)
	c.State, c.ExitCode, c.Finished, c.Reason = containers.Exited, code, t0.Add(time.Second), containers.ReasonCompleted
	if code != 0 {
		c.Reason = containers.ReasonError
	}
	return c
}

func basic() Facts {
	return Facts{
		Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "b"}, {Name: "a"}}}},
		Now: t0, Phase: corev1.PodRunning, Networked: true, Initialized: true,
		HostIPs: []netip.Addr{netip.MustParseAddr("198.18.0.1")}, PodIPs: []netip.Addr{netip.MustParseAddr("10.244.0.5")},
		Containers: map[string][]containers.Container{"i": {exited("i", 0, 0)}, "a": {running("a", 0)}, "b": {running("b", 0)}},
		Started:    map[string]bool{"a-0": true, "b-0": true}, Ready: map[string]bool{"a-0": true, "b-0": true},
	}
}

// tell is a status in a line: phase, the conditions that are true, and each container.
func tell(st corev1.PodStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", st.Phase)
	for _, c := range st.Conditions {
		if c.Status == corev1.ConditionTrue {
			fmt.Fprintf(&b, " +%s", c.Type)
		} else {
			fmt.Fprintf(&b, " -%s(%s)", c.Type, c.Reason)
		}
	}
	state := func(s corev1.ContainerState) string {
		switch {
		case s.Running != nil:
			return "running"
		case s.Waiting != nil:
			return s.Waiting.Reason
		case s.Terminated != nil:
			return fmt.Sprintf("%s:%d", s.Terminated.Reason, s.Terminated.ExitCode)
		}
		return ""
	}
	for _, cs := range slices.Concat(st.InitContainerStatuses, st.ContainerStatuses) {
		fmt.Fprintf(&b, " %s=%s", cs.Name, state(cs.State))
		if cs.LastTerminationState.Terminated != nil {
			fmt.Fprintf(&b, "<%s", state(cs.LastTerminationState))
		}
		if cs.RestartCount > 0 {
			fmt.Fprintf(&b, "×%d", cs.RestartCount)
		}
		if cs.Ready {
			fmt.Fprint(&b, "!")
		}
	}
	return b.String()
}

func TestCompute(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Facts)
		want string
	}{
		{"all runs", func(*Facts) {},
			"Running +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled i=Completed:0! a=running! b=running!"},
		{"nothing yet", func(f *Facts) {
			f.Phase, f.Networked, f.Initialized, f.Containers = corev1.PodPending, false, false, nil
		}, "Pending -PodReadyToStartContainers() -Initialized(ContainersNotInitialized) -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled i=PodInitializing a=PodInitializing b=PodInitializing"},
		{"no init containers, creating", func(f *Facts) {
			f.Pod.Spec.InitContainers, f.Containers, f.Phase = nil, nil, corev1.PodPending
		}, "Pending +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled a=ContainerCreating b=ContainerCreating"},
		{"one is not ready", func(f *Facts) { f.Ready["b-0"] = false },
			"Running +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled i=Completed:0! a=running! b=running"},
		{"one is not started", func(f *Facts) { f.Started["b-0"] = false },
			"Running +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled i=Completed:0! a=running! b=running"},
		{"crash loop", func(f *Facts) {
			f.Containers["a"] = []containers.Container{exited("a", 2, 1), exited("a", 1, 1)}
			f.Waiting = map[string]corev1.ContainerStateWaiting{"a": {Reason: "CrashLoopBackOff"}}
		}, "Running +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled i=Completed:0! a=CrashLoopBackOff<Error:1×2 b=running!"},
		{"started again", func(f *Facts) {
			f.Containers["a"] = []containers.Container{running("a", 1), exited("a", 0, 7)}
			f.Started["a-1"], f.Ready["a-1"] = true, true
		}, "Running +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled i=Completed:0! a=running<Error:7×1! b=running!"},
		{"succeeded", func(f *Facts) {
			f.Phase, f.Networked = corev1.PodSucceeded, false
			f.Containers["a"], f.Containers["b"] = []containers.Container{exited("a", 0, 0)}, []containers.Container{exited("b", 0, 0)}
		}, "Succeeded -PodReadyToStartContainers() +Initialized -Ready(PodCompleted) -ContainersReady(PodCompleted) +PodScheduled i=Completed:0! a=Completed:0 b=Completed:0"},
		{"failed init", func(f *Facts) {
			f.Phase, f.Initialized = corev1.PodFailed, false
			f.Containers = map[string][]containers.Container{"i": {exited("i", 0, 2)}}
		}, "Failed +PodReadyToStartContainers -Initialized(ContainersNotInitialized) -Ready(PodFailed) -ContainersReady(PodFailed) +PodScheduled i=Error:2 a=PodInitializing b=PodInitializing"},
		{"made but not started: the former one still tells", func(f *Facts) {
			made := running("a", 1)
			made.State = containers.Created
			f.Containers["a"] = []containers.Container{made, exited("a", 0, 1)}
		}, "Running +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled i=Completed:0! a=Error:1 b=running!"},
		{"a readiness gate is closed", func(f *Facts) {
			f.Pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "x.io/gate"}}
		}, "Running +PodReadyToStartContainers +Initialized -Ready(ReadinessGatesNotReady) +ContainersReady +PodScheduled i=Completed:0! a=running! b=running!"},
		{"records lost with their sandbox", func(f *Facts) {
			f.Pod.Status = Compute(*f)
			f.Containers["a"] = nil
		}, "Running +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled i=Completed:0! a=ContainerCreating<ContainerStatusUnknown:137 b=running!"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := basic()
			tc.edit(&f)
			st := Compute(f)
			if got := tell(st); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestComputeKeepsWhatItMust(t *testing.T) {
	f := basic()
	f.Pod.Status.Conditions = []corev1.PodCondition{
		{Type: "x.io/mine", Status: "True"}, {Type: corev1.PodScheduled, Status: "True", LastTransitionTime: metav1.NewTime(t0.Add(-time.Hour))}}
	f.Pod.Status.NominatedNodeName = "n"
	st := Compute(f)
	if st.Conditions[0].Type != "x.io/mine" || !st.Conditions[1].LastTransitionTime.Time.Equal(t0.Add(-time.Hour)) || st.NominatedNodeName != "n" {
		t.Errorf("what others wrote was changed: %+v", st)
	}
	if st.PodIP != "10.244.0.5" || st.HostIP != "198.18.0.1" || len(st.PodIPs) != 1 || st.ObservedGeneration != 3 || st.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("addresses or facts: %+v", st)
	}
	// Asked again later, nothing changes; addresses stay when the sandbox is gone.
	f.Pod = f.Pod.DeepCopy()
	f.Pod.Status = st
	f.Now = t0.Add(time.Minute)
	if again := Compute(f); !equality.Semantic.DeepEqual(again, st) {
		t.Errorf("the same facts changed the status:\n%+v\n%+v", st, again)
	}
	f.PodIPs, f.Ready["a-0"] = nil, false
	later := Compute(f)
	if later.PodIP != st.PodIP {
		t.Error("the address was lost")
	}
	for _, c := range later.Conditions {
		want := t0.Truncate(time.Second)
		switch c.Type {
		case corev1.PodReady, corev1.ContainersReady:
			want = f.Now.Truncate(time.Second)
		case corev1.PodScheduled, "x.io/mine":
			continue
		}
		if !c.LastTransitionTime.Time.Equal(want) {
			t.Errorf("%s changed at %s, want %s", c.Type, c.LastTransitionTime, want)
		}
	}
	f = basic()
	f.Pod.Spec.HostNetwork, f.PodIPs = true, nil
	if st := Compute(f); st.PodIP != "198.18.0.1" {
		t.Errorf("a pod on the node's network is at %q", st.PodIP)
	}
}

func TestAddressesAreInTheNodesOrder(t *testing.T) {
	ips := func(list ...string) (ips []netip.Addr) {
		for _, ip := range list {
			ips = append(ips, netip.MustParseAddr(ip))
		}
		return ips
	}
	for name, tc := range map[string]struct {
		hosts, pods []netip.Addr
		own         bool // has a network of its own
		want        string
	}{
		"IPv4 first":                        {ips("198.18.0.1", "fd00::1"), ips("10.244.0.5", "fd01::5"), true, "198.18.0.1 [{198.18.0.1} {fd00::1}] 10.244.0.5 [{10.244.0.5} {fd01::5}]"},
		"IPv6 first":                        {ips("fd00::1", "198.18.0.1"), ips("10.244.0.5", "fd01::5"), true, "fd00::1 [{fd00::1} {198.18.0.1}] fd01::5 [{fd01::5} {10.244.0.5}]"},
		"IPv6 only":                         {ips("fd00::1"), ips("fd01::5"), true, "fd00::1 [{fd00::1}] fd01::5 [{fd01::5}]"},
		"one family where the node has two": {ips("198.18.0.1", "fd00::1"), ips("fd01::5"), true, "198.18.0.1 [{198.18.0.1} {fd00::1}] fd01::5 [{fd01::5}]"},
		"two where the node has one":        {ips("fd00::1"), ips("10.244.0.5", "fd01::5"), true, "fd00::1 [{fd00::1}] fd01::5 [{fd01::5} {10.244.0.5}]"},
		"two of one family":                 {ips("198.18.0.1"), ips("10.244.0.5", "10.245.0.5", "fd01::5"), true, "198.18.0.1 [{198.18.0.1}] 10.244.0.5 [{10.244.0.5} {fd01::5}]"},
		"on the node's network":             {ips("fd00::1", "198.18.0.1"), nil, false, "fd00::1 [{fd00::1} {198.18.0.1}] fd00::1 [{fd00::1} {198.18.0.1}]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := Facts{Pod: &corev1.Pod{}, HostIPs: tc.hosts, PodIPs: tc.pods, Networked: true}
			f.Pod.Spec.HostNetwork = !tc.own
			st := Compute(f)
			if got := fmt.Sprintf("%s %v %s %v", st.HostIP, st.HostIPs, st.PodIP, st.PodIPs); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// A node that comes back with another address: the pods on its network are found there, the others where they were.
func TestAddressesFollowTheNode(t *testing.T) {
	f := Facts{Pod: &corev1.Pod{Status: corev1.PodStatus{HostIP: "198.18.0.1", PodIP: "198.18.0.1", PodIPs: []corev1.PodIP{{IP: "198.18.0.1"}}}},
		HostIPs: []netip.Addr{netip.MustParseAddr("198.18.0.77")}, Networked: true}
	f.Pod.Spec.HostNetwork = true
	if st := Compute(f); st.HostIP != "198.18.0.77" || st.PodIP != "198.18.0.77" || len(st.PodIPs) != 1 || st.PodIPs[0].IP != "198.18.0.77" {
		t.Errorf("got %+v", st)
	}
	f.Pod.Spec.HostNetwork, f.PodIPs = false, []netip.Addr{netip.MustParseAddr("10.244.0.5")}
	if st := Compute(f); st.HostIP != "198.18.0.77" || st.PodIP != "10.244.0.5" {
		t.Errorf("got %+v", st)
	}
}
