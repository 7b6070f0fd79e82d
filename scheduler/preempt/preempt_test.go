package preempt_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/preempt"
)

// on makes pods from words `name:priority:cpu[:start]`.
func on(name, cpu string, words ...string) *nodeinfo.Node {
	n := nodeinfo.NewNode(name)
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	object.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse(cpu), "pods": resource.MustParse("10")}
	n.SetObject(object)
	for _, w := range words {
		n.Add(newPod(w))
	}
	return n
}

func newPod(word string) *nodeinfo.Pod {
	parts := append(strings.Split(word, ":"), "")
	var priority int32
	var start int64
	fmt.Sscan(parts[1], &priority)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: parts[0], UID: types.UID(parts[0])}}
	p.Spec.Priority = &priority
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(parts[2])}}}}
	if n, _ := fmt.Sscan(parts[3], &start); n == 1 {
		p.Status.StartTime = &metav1.Time{Time: metav1.Unix(start, 0).Time}
	}
	return nodeinfo.NewPod(p)
}

func TestChoose(t *testing.T) {
	never := newPod("p:10:1").DeepCopy()
	policy := corev1.PreemptNever
	never.Spec.PreemptionPolicy = &policy
	for _, tc := range []struct {
		name  string
		pod   *nodeinfo.Pod
		nodes []*nodeinfo.Node
		want  string // node: victims; empty: no plan
	}{
		{"nobody is less important", newPod("p:10:1"), []*nodeinfo.Node{on("n", "1", "a:10:1")}, ""},
		{"would not fit even alone", newPod("p:10:2"), []*nodeinfo.Node{on("n", "1", "a:1:1")}, ""},
		{"as few as possible", newPod("p:10:1"), []*nodeinfo.Node{on("n", "3", "a:1:1", "b:2:1", "c:3:1")}, "n: a"},
		{"one big one instead of two that do not suffice", newPod("p:10:2"), []*nodeinfo.Node{on("n", "3", "a:1:500m", "b:2:2", "c:1:500m")}, "n: b"},
		{"node whose worst loss is least", newPod("p:10:1"), []*nodeinfo.Node{on("n", "1", "a:5:1"), on("m", "1", "b:4:500m", "c:4:500m")}, "m: b c"},
		{"then the smaller sum", newPod("p:10:1"), []*nodeinfo.Node{on("n", "1", "a:4:500m", "b:4:500m"), on("m", "1", "c:4:500m", "d:1:500m")}, "m: c d"},
		{"then fewer", newPod("p:10:1"), []*nodeinfo.Node{on("n", "1", "a:0:500m", "b:0:500m"), on("m", "1", "c:0:1")}, "m: c"},
		{"then the younger", newPod("p:10:1"), []*nodeinfo.Node{on("n", "1", "a:4:1:100"), on("m", "1", "b:4:1:200")}, "m: b"},
		{"the older of equals stays", newPod("p:10:1"), []*nodeinfo.Node{on("n", "2", "a:4:1:200", "b:4:1:100")}, "n: a"},
		{"fits without", newPod("p:10:1"), []*nodeinfo.Node{on("n", "2", "a:4:1")}, ""},
		{"does not want it", nodeinfo.NewPod(never), []*nodeinfo.Node{on("n", "1", "a:1:1")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := fmt.Sprint(len(tc.nodes[0].Pods), tc.nodes[0].Used)
			plan := preempt.Choose(tc.pod, tc.nodes, func(n *nodeinfo.Node) bool {
				return len(placement.Fits(tc.pod.Want, n.Used, n.Allocatable, len(n.Pods))) == 0
			})
			got := ""
			if plan != nil {
				got = plan.Node + ":"
				for _, v := range plan.Victims {
					got += " " + v.Name
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if after := fmt.Sprint(len(tc.nodes[0].Pods), tc.nodes[0].Used); after != before {
				t.Errorf("the snapshot was changed from %s to %s", before, after)
			}
		})
	}
}

func TestWaits(t *testing.T) {
	n := on("n", "2", "a:1:1")
	p := newPod("p:10:1")
	if preempt.Waits(p, nil) || preempt.Waits(p, n) {
		t.Error("nobody is leaving")
	}
	leaving := newPod("b:1:1").DeepCopy()
	leaving.DeletionTimestamp = &metav1.Time{}
	n.Add(nodeinfo.NewPod(leaving))
	if !preempt.Waits(p, n) {
		t.Error("b is leaving")
	}
}
