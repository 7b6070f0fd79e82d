package pods

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/placement"
)

// asking is a pod of a class that asks for processor time and memory.
func asking(name string, class corev1.PodQOSClass, cpu, memory string, priority int32) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{Name: "c"}}}}
	list := corev1.ResourceList{}
	if cpu != "" {
		list["cpu"] = resource.MustParse(cpu)
	}
	if memory != "" {
		list["memory"] = resource.MustParse(memory)
	}
	c := &p.Spec.Containers[0]
	if class != corev1.PodQOSBestEffort {
		c.Resources.Requests = list
	}
	if class == corev1.PodQOSGuaranteed {
		c.Resources.Limits = list
	}
	return p
}

func TestPreempt(t *testing.T) {
	const best, burst, sure = corev1.PodQOSBestEffort, corev1.PodQOSBurstable, corev1.PodQOSGuaranteed
	critical := asking("critical", burst, "1", "1Gi", 2_000_000_000)
	small, big := asking("burst-small", burst, "200m", "100Mi", 0), asking("burst-big", burst, "1", "600Mi", 0)
	sureSmall, sureBig := asking("sure-small", sure, "200m", "100Mi", 0), asking("sure-big", sure, "1", "600Mi", 0)
	none, other := asking("best", best, "", "", 0), asking("other-critical", burst, "1", "600Mi", 2_000_000_000)
	all := []*corev1.Pod{sureBig, none, big, small, sureSmall, other}
	// short of x when so much is used up that x is missing
	lacks := func(name corev1.ResourceName, n int64) placement.Insufficient {
		return placement.Insufficient{Resource: name, Requested: n, Used: 1 << 40, Capacity: 1 << 40}
	}
	const mi = 1 << 20
	for _, tc := range []struct {
		name   string
		others []*corev1.Pod
		short  []placement.Insufficient
		want   string
		miss   string
	}{
		{"a place", all, []placement.Insufficient{lacks("pods", 1)}, "best", ""},
		{"little memory", all, []placement.Insufficient{lacks("memory", 50*mi)}, "burst-small", ""},
		{"more than the small one has", all, []placement.Insufficient{lacks("memory", 500*mi)}, "burst-big", ""},
		{"all that is burstable", all, []placement.Insufficient{lacks("memory", 650*mi)}, "burst-big burst-small", ""},
		{"and a guaranteed one", all, []placement.Insufficient{lacks("memory", 750*mi)}, "burst-big burst-small sure-small", ""},
		{"two resources", all, []placement.Insufficient{lacks("cpu", 100), lacks("memory", 200*mi)}, "burst-big", ""},
		{"too much", all, []placement.Insufficient{lacks("memory", 1500*mi)}, "", "[(res: memory, q: 104857600), ]"},
		{"nobody yields", []*corev1.Pod{other}, []placement.Insufficient{lacks("pods", 1)}, "", "[(res: pods, q: 1), ]"},
		{"one more important", []*corev1.Pod{asking("low", burst, "1", "1Gi", 2_000_000_000)}, []placement.Insufficient{lacks("cpu", 10)}, "", "[(res: cpu, q: 10), ]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			victims, missing := preempt(critical, tc.others, tc.short)
			var names []string
			for _, v := range victims {
				names = append(names, v.Name)
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != tc.want {
				t.Errorf("ended: %s, want %s", got, tc.want)
			}
			if text := missing.String(); text != tc.miss && (tc.miss != "" || len(missing) > 0) {
				t.Errorf("missing: %s, want %s", text, tc.miss)
			}
		})
	}
	node := asking("node-critical", burst, "1", "1Gi", 2_000_001_000)
	if victims, _ := preempt(node, []*corev1.Pod{other}, []placement.Insufficient{lacks("cpu", 10)}); len(victims) != 1 {
		t.Error("a more critical pod does not come before a less critical one")
	}
}
