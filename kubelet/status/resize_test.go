package status

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
)

func cpus(request string) *corev1.ResourceRequirements {
	return &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(request)}}
}

// TestResizeConditions: they come, keep their time as long as they stay, and go, while what others wrote stays.
func TestResizeConditions(t *testing.T) {
	t0 := time.Unix(1000, 0)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	p.Status.Conditions = []corev1.PodCondition{{Type: "x.io/other", Status: corev1.ConditionTrue}}
	find := func(st corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
		for i := range st.Conditions {
			if st.Conditions[i].Type == kind {
				return &st.Conditions[i]
			}
		}
		return nil
	}
	pending := corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: "Deferred", Message: "no room", ObservedGeneration: 2}
	p.Status = Compute(Facts{Pod: p, Now: t0, Resize: []corev1.PodCondition{pending}})
	pending.Message = "less room"
	p.Status = Compute(Facts{Pod: p, Now: t0.Add(time.Minute), Resize: []corev1.PodCondition{pending}})
	if c := find(p.Status, corev1.PodResizePending); c == nil || c.Message != "less room" || !c.LastTransitionTime.Time.Equal(t0) || c.ObservedGeneration != 2 {
		t.Errorf("pending: %+v", c)
	}
	before := p.Status
	p.Status = Compute(Facts{Pod: p, Now: t0.Add(time.Hour), Resize: []corev1.PodCondition{{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}}})
	if find(p.Status, corev1.PodResizePending) != nil || find(p.Status, corev1.PodResizeInProgress) == nil || find(p.Status, "x.io/other") == nil {
		t.Errorf("in progress: %+v", p.Status.Conditions)
	}
	if written := WithOthers(&p.Status, &before); find(*written, corev1.PodResizePending) != nil || find(*written, corev1.PodResizeInProgress) == nil || find(*written, "x.io/other") == nil {
		t.Errorf("written: %+v", written.Conditions)
	}
}

// TestResources: a running container has what its groups say, others what they were given, ephemeral ones nothing.
func TestResources(t *testing.T) {
	given := *cpus("2")
	p := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i", Resources: given}}, Containers: []corev1.Container{{Name: "a", Resources: given}, {Name: "b", Resources: given}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}},
	}}
	run := func(id string, state containers.State) []containers.Container {
		return []containers.Container{{ID: id, State: state}}
	}
	st := Compute(Facts{Pod: p, Now: time.Unix(1, 0), Resources: map[string]*corev1.ResourceRequirements{"1": cpus("1")}, Containers: map[string][]containers.Container{
		"i": run("0", containers.Exited), "a": run("1", containers.Running), "b": run("2", containers.Running), "e": run("3", containers.Running),
	}})
	for _, c := range []struct {
		cs   corev1.ContainerStatus
		want string
	}{{st.InitContainerStatuses[0], "2"}, {st.ContainerStatuses[0], "1"}, {st.ContainerStatuses[1], "2"}} {
		if got := c.cs.Resources.Requests.Cpu().String(); got != c.want || c.cs.AllocatedResources.Cpu().String() != "2" {
			t.Errorf("%s has %s, want %s, allocated %v", c.cs.Name, got, c.want, c.cs.AllocatedResources)
		}
	}
	if e := st.EphemeralContainerStatuses[0]; e.Resources != nil || e.AllocatedResources != nil {
		t.Errorf("an ephemeral container has %+v", e)
	}
	if st.AllocatedResources != nil || st.Resources != nil {
		t.Errorf("the pod as a whole has %v, %v", st.AllocatedResources, st.Resources)
	}
	p.Spec.Resources = cpus("8")
	p.Status = Compute(Facts{Pod: p, Now: time.Unix(1, 0)})
	p.Spec.Resources = cpus("9")
	st = Compute(Facts{Pod: p, Now: time.Unix(1, 0), Resize: []corev1.PodCondition{{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}}})
	if st.AllocatedResources.Cpu().String() != "9" || st.Resources.Requests.Cpu().String() != "8" {
		t.Errorf("while it is resized the pod as a whole has %v, %v", st.AllocatedResources, st.Resources)
	}
	if st = Compute(Facts{Pod: p, Now: time.Unix(1, 0)}); st.Resources.Requests.Cpu().String() != "9" {
		t.Errorf("then it has %v", st.Resources)
	}
}
