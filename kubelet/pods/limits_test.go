package pods

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/cgroups"
)

func TestLimits(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	plain := Sizing{}
	huge := Sizing{HugePages: []int64{2 * mib, gib}}
	v2 := Sizing{V2: true, Throttle: 0.5, Protect: true, Memory: 10 * gib}
	pages := func(p *corev1.Pod) *corev1.Pod {
		return with(p, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits["hugepages-2Mi"] = resource.MustParse("4Mi")
		})
	}
	whole := func(p *corev1.Pod, text string) *corev1.Pod {
		return with(p, func(p *corev1.Pod) { r := amounts(text); p.Spec.Resources = &r })
	}
	costly := func(p *corev1.Pod) *corev1.Pod {
		return with(p, func(p *corev1.Pod) {
			p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("16Mi")}
		})
	}
	for name, tc := range map[string]struct {
		z         Sizing
		pod       *corev1.Pod
		container cgroups.Resources // of the first
		group     cgroups.Resources
	}{
		"nothing":            {plain, sized("p", ""), cgroups.Limits(0, 0, 0), cgroups.Limits(0, 0, 0)},
		"two":                {plain, sized("p", "100m/200m/1Mi/2Mi", "300m/400m/3Mi/4Mi"), cgroups.Limits(100, 200, 2*mib), cgroups.Limits(400, 600, 6*mib)},
		"one without limits": {plain, sized("p", "100m/200m/1Mi/2Mi", "300m"), cgroups.Limits(100, 200, 2*mib), cgroups.Limits(400, 0, 0)},
		"overhead":           {plain, costly(sized("p", "100m/200m/1Mi/2Mi")), cgroups.Limits(100, 200, 2*mib), cgroups.Limits(350, 450, 18*mib)},
		"the pod's":          {plain, whole(sized("p", "", "100m"), "1/2//8Mi"), cgroups.Limits(0, 2000, 8*mib), cgroups.Limits(1000, 2000, 8*mib)},
		"the pod's and own":  {plain, whole(sized("p", "100m/200m/1Mi/2Mi", ""), "1/2//8Mi"), cgroups.Limits(100, 200, 2*mib), cgroups.Limits(1000, 2000, 8*mib)},
		"no quota":           {Sizing{NoQuota: true}, sized("p", "100m/200m"), cgroups.Limits(100, 0, 0), cgroups.Limits(100, 0, 0)},
		"period":             {Sizing{Period: 10_000, PodPIDs: 7}, sized("p", "100m/200m"), cgroups.Resources{CPUShares: 102, CPUQuota: 2000, CPUPeriod: 10_000}, cgroups.Resources{CPUShares: 102, CPUQuota: 2000, CPUPeriod: 10_000, PIDs: 7}},
		"huge pages": {huge, pages(sized("p", "100m", "")), cgroups.Resources{CPUShares: 102, CPUQuota: -1, CPUPeriod: 100_000, HugePages: map[int64]int64{2 * mib: 4 * mib, gib: 0}},
			cgroups.Resources{CPUShares: 102, CPUQuota: -1, CPUPeriod: 100_000, HugePages: map[int64]int64{2 * mib: 4 * mib, gib: 0}}},
		"v2, burstable": {v2, sized("p", "100m//2Gi/4Gi"), cgroups.Resources{CPUShares: 102, CPUQuota: -1, CPUPeriod: 100_000, Memory: 4 * gib, MemoryLow: 2 * gib, MemoryHigh: 3 * gib},
			cgroups.Resources{CPUShares: 102, CPUQuota: -1, CPUPeriod: 100_000, Memory: 4 * gib, MemoryLow: 2 * gib, NoSwap: true}},
		"v2, guaranteed": {v2, sized("p", "100m/100m/2Gi/2Gi"), cgroups.Resources{CPUShares: 102, CPUQuota: 10_000, CPUPeriod: 100_000, Memory: 2 * gib, MemoryMin: 2 * gib},
			cgroups.Resources{CPUShares: 102, CPUQuota: 10_000, CPUPeriod: 100_000, Memory: 2 * gib, MemoryMin: 2 * gib, NoSwap: true}},
		"v2, best effort": {v2, sized("p", ""), cgroups.Resources{CPUShares: 2, CPUQuota: -1, CPUPeriod: 100_000, MemoryHigh: 5 * gib},
			cgroups.Resources{CPUShares: 2, CPUQuota: -1, CPUPeriod: 100_000, NoSwap: true}},
	} {
		if got := tc.z.container(tc.pod, &tc.pod.Spec.Containers[0]); !reflect.DeepEqual(got, tc.container) {
			t.Errorf("%s: container %+v, want %+v", name, got, tc.container)
		}
		if got := tc.z.pod(tc.pod); !reflect.DeepEqual(got, tc.group) {
			t.Errorf("%s: group %+v, want %+v", name, got, tc.group)
		}
	}
}

func TestOOMScores(t *testing.T) {
	side := corev1.Container{Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Resources: amounts("//1Gi")}
	served := with(sized("p", "//5Gi", "//3Gi"), func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{side} })
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		c    *corev1.Container
		want int
	}{
		"guaranteed":  {sized("p", "1/1/1Gi/1Gi"), nil, -997},
		"best effort": {sized("p", ""), nil, 1000},
		"a tenth":     {sized("p", "//1Gi"), nil, 900},
		"almost none": {sized("p", "1m"), nil, 999},
		"everything":  {sized("p", "//10Gi"), nil, 3},
		"node critical": {with(sized("p", "1m"), func(p *corev1.Pod) {
			p.Spec.PriorityClassName, p.Spec.Priority = "system-node-critical", new(int32(2_000_001_000))
		}), nil, -997},
		"cluster critical": {with(sized("p", "//1Gi"), func(p *corev1.Pod) {
			p.Spec.PriorityClassName, p.Spec.Priority = "system-cluster-critical", new(int32(2_000_000_000))
		}), nil, 900},
		"sidecar as the least served": {served, &served.Spec.InitContainers[0], 700},
		"beside a sidecar":            {served, nil, 500},
		"the pod's, shared out":       {with(sized("p", "//1Gi", ""), func(p *corev1.Pod) { r := amounts("//5Gi"); p.Spec.Resources = &r }), nil, 700},
	} {
		c := tc.c
		if c == nil {
			c = &tc.pod.Spec.Containers[0]
		}
		if got := oomScore(tc.pod, c, 10<<30); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
