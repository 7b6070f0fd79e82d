package cycle

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/plugins"
)

// BenchmarkChoose chooses nodes for pods of fifty owners among 1,000 nodes on which 10,000 pods stand, and assumes them; no
// API is involved. pods/s is the rate of the choosing goroutine.
func BenchmarkChoose(b *testing.B) {
	const nodes, pods, owners = 1000, 10000, 50
	newPod := func(i int) *nodeinfo.Pod {
		yes := true
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("uid-", i)),
			OwnerReferences: []metav1.OwnerReference{{UID: types.UID(fmt.Sprint("owner-", i%owners)), Controller: &yes}}}}
		p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")}}}}
		return nodeinfo.NewPod(p)
	}
	c := cache.New()
	for i := range nodes {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%04d", i),
			Labels: map[string]string{"topology.kubernetes.io/zone": fmt.Sprint("z", i%3)}}}
		n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("32"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("110")}
		c.SetNode(n)
	}
	for i := range pods {
		p := newPod(i)
		c.Set(p.On(fmt.Sprintf("node-%04d", i%nodes)))
	}
	waiting := make([]*nodeinfo.Pod, 2000) // not more than fit; taken off again when all have been placed
	for i := range waiting {
		waiting[i] = newPod(pods + i)
	}
	chooser := newChooser(c, framework.NewSet(plugins.Table, framework.Parts{}))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p := waiting[i%len(waiting)]
		if i >= len(waiting) {
			c.Forget(p.UID)
		}
		node, refused, err := chooser.choose(p)
		if err != nil || refused != nil {
			b.Fatalf("%v %v", refused, err)
		}
		if err := c.Assume(p, node); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}

// BenchmarkRefuse is the trip of a pod that fits on none of 1,000 nodes, up to the sentence that says why.
func BenchmarkRefuse(b *testing.B) {
	c := cache.New()
	for i := range 1000 {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%04d", i)}}
		n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("110")}
		if i%2 == 0 {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}
		}
		c.SetNode(n)
	}
	p := &corev1.Pod{}
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("2")}}}}
	info := nodeinfo.NewPod(p)
	chooser := newChooser(c, framework.NewSet(plugins.Table, framework.Parts{}))
	b.ReportAllocs()
	for b.Loop() {
		if _, refused, _ := chooser.choose(info); refused.String() == "" {
			b.Fatal("it fits")
		}
	}
}
