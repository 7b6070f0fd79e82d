package hpa

import (
	"math"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

func TestUtilizationOfLargeAmounts(t *testing.T) {
	pods, used := crew(1000), map[string]sample{}
	for i, p := range pods {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Ti")}
		amount := resource.MustParse("512Gi")
		if i > 0 {
			used[p.Name] = sample{value: amount.MilliValue()}
		}
	}
	m := measured{current: 1000, pods: pods, samples: used, resource: "memory", now: noon}
	if replicas, share, _, err := m.utilization(25); err != nil || share != 50 || replicas != 1960 {
		t.Errorf("%d replicas by a share of %d, %v", replicas, share, err)
	}
	if replicas, share, _, err := m.utilization(math.MaxInt32); err != nil || share != 50 || replicas != 1 {
		t.Errorf("%d replicas by a share of %d, %v", replicas, share, err)
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct{ a, b, by, want int64 }{
		{29, 100, 100, 29}, {2, 100, 3, 66}, {0, 100, 3, 0}, {-5, 100, 3, 0},
		{math.MaxInt64, 100, math.MaxInt64, 100}, {math.MaxInt64, 100, 1, math.MaxInt64}, {math.MaxInt64, 3, 2, math.MaxInt64},
	} {
		if got := times(c.a, c.b, c.by); got != c.want {
			t.Errorf("%d·%d/%d is %d, want %d", c.a, c.b, c.by, got, c.want)
		}
	}
}

func TestPodsOfAFormerTarget(t *testing.T) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, p := range crew(2) {
		p.Namespace = "ns"
		if err := indexer.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	c := &controller{memory: map[loop.Key]*history{}, who: map[loop.Key]selected{}, numbers: newNumbers(nil), pods: corelisters.NewPodLister(indexer)}
	named := func(name, target string) *autoscalingv2.HorizontalPodAutoscaler {
		h := scaler(1, 5)
		h.Namespace, h.Name, h.Spec.ScaleTargetRef.Name = "ns", name, target
		c.past(h)
		return h
	}
	refused := func(h *autoscalingv2.HorizontalPodAutoscaler) bool {
		_, no := c.selector(h, "app=web")
		return no != nil
	}
	if refused(named("a", "web")) {
		t.Fatal("the first is refused")
	}
	if !refused(named("b", "web")) {
		t.Fatal("two scale the same pods")
	}
	moved := named("a", "elsewhere")
	if refused(named("b", "web")) {
		t.Error("the former target of another counts")
	}
	if !refused(moved) {
		t.Fatal("two scale the same pods once more")
	}
	c.scalesNothing(loop.KeyOf(moved))
	if refused(named("b", "web")) {
		t.Error("a target that is gone counts")
	}
}
