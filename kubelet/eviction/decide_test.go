package eviction

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestThresholds(t *testing.T) {
	for _, tc := range []struct {
		name, hard, soft, graces, reclaims string
		want                               string // or part of the error
	}{
		{name: "none"},
		{name: "quantity and part", hard: "memory.available<1Gi,nodefs.available<10%", want: "memory.available<1073741824/0 hard; nodefs.available<0/0.1 hard; allocatableMemory.available<1073741824/0 hard"},
		{name: "no threshold at all", hard: "nodefs.available<0%,imagefs.available<100%"},
		{name: "soft", soft: "pid.available<5%", graces: "pid.available=1m30s", want: "pid.available<0/0.05 1m30s"},
		{name: "reclaim", hard: "imagefs.available<15%", reclaims: "imagefs.available=2Gi", want: "imagefs.available<0/0.15 hard +2147483648/0"},
		{name: "allocatable by name", hard: "memory.available<1Ki, allocatableMemory.available<2Ki", want: "memory.available<1024/0 hard; allocatableMemory.available<2048/0 hard"},
		{name: "soft without grace", soft: "memory.available<1Gi", want: "grace period must be specified for the soft eviction threshold memory.available"},
		{name: "unknown", hard: "cpu.available<1", want: `unsupported eviction signal "cpu.available"`},
		{name: "no sign", hard: "memory.available", want: "expected <signal><<value>"},
		{name: "wrong sign", hard: "memory.available>1Gi", want: "expected <signal><<value>"},
		{name: "no value", hard: "memory.available<", want: "invalid eviction threshold syntax"},
		{name: "no number", hard: "memory.available<much", want: "quantities must match"},
		{name: "negative", hard: "memory.available<-1", want: "must not be negative"},
		{name: "too much", hard: "memory.available<101%", want: "100 or less"},
		{name: "no part", hard: "memory.available<NaN%", want: "100 or less"},
		{name: "no threshold, otherwise written", hard: "nodefs.available<0.0%,imagefs.available<1e2%"},
		{name: "twice", hard: "memory.available<1,memory.available<2", want: "duplicate"},
		{name: "negative grace", soft: "memory.available<1Gi", graces: "memory.available=-1s", want: "must be a positive value"},
		{name: "no grace", soft: "memory.available<1Gi", graces: "memory.available=soon", want: "invalid duration"},
		{name: "no reclaim", hard: "memory.available<1Gi", reclaims: "memory.available", want: "invalid eviction minimum reclaim syntax"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, err := Thresholds(tc.hard, tc.soft, tc.graces, tc.reclaims)
			var words []string
			for _, x := range list {
				word := fmt.Sprintf("%s<%d/%g", x.Signal, x.Value.Quantity, x.Value.Part)
				if x.Hard {
					word += " hard"
				} else {
					word += " " + x.Grace.String()
				}
				if x.Reclaim != (Amount{}) {
					word += fmt.Sprintf(" +%d/%g", x.Reclaim.Quantity, x.Reclaim.Part)
				}
				words = append(words, word)
			}
			got := strings.Join(words, "; ")
			if err != nil {
				if tc.want == "" || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error is %v, want %q", err, tc.want)
				}
				return
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if list, err := Thresholds(DefaultHard, "", "", ""); err != nil || MemoryReserved(list, 1<<40) != 100<<20 {
		t.Errorf("the default keeps %d from pods, %v", MemoryReserved(list, 1<<40), err)
	}
}

// A story of looks: each line is seconds since the start, what is left of memory and disk in percent, and what must be said.
func TestJudge(t *testing.T) {
	list, err := Thresholds("memory.available<10%,nodefs.available<10%,nodefs.inodesFree<5%", "memory.available<30%", "memory.available=10s", "nodefs.available=10%")
	if err != nil {
		t.Fatal(err)
	}
	j := newJudge(list, 20*time.Second)
	start := time.Unix(1e9, 0)
	for _, step := range []struct {
		at           int
		memory, disk uint64
		want         string
	}{
		{0, 50, 50, ""},
		{1, 29, 50, "[MemoryPressure]"},
		{10, 29, 50, "[MemoryPressure]"},
		{11, 29, 50, "[MemoryPressure] soft memory.available"},
		{12, 9, 50, "[MemoryPressure] hard memory.available soft memory.available"},
		{13, 9, 9, "[DiskPressure MemoryPressure] hard memory.available soft memory.available hard nodefs.available"},
		{14, 35, 15, "[DiskPressure MemoryPressure] hard nodefs.available"}, // not yet what must be reclaimed
		{15, 35, 20, "[DiskPressure MemoryPressure]"},
		{16, 29, 20, "[DiskPressure MemoryPressure]"}, // the soft one begins anew
		{34, 35, 20, "[MemoryPressure]"},              // the disk was well for 20 s
		{54, 35, 20, ""},
	} {
		pressure, due := j.look(start.Add(time.Duration(step.at)*time.Second), sight{
			memoryAvailable: {step.memory, 100}, nodefsAvailable: {step.disk, 100},
		})
		var words []string
		if len(pressure) > 0 {
			var kinds []string
			for _, kind := range []corev1.NodeConditionType{corev1.NodeDiskPressure, corev1.NodeMemoryPressure, corev1.NodePIDPressure} {
				if pressure[kind] {
					kinds = append(kinds, string(kind))
				}
			}
			words = append(words, fmt.Sprint(kinds))
		}
		for _, s := range due {
			if s.threshold.Hard {
				words = append(words, "hard "+string(s.threshold.Signal))
			} else {
				words = append(words, "soft "+string(s.threshold.Signal))
			}
		}
		if got := strings.Join(words, " "); got != step.want {
			t.Errorf("after %d s: %q, want %q", step.at, got, step.want)
		}
	}
}

func TestRank(t *testing.T) {
	const mi = 1 << 20
	list := []candidate{
		{pod: newPod("within", 0, ""), used: 10 * mi, requested: 20 * mi}, {pod: newPod("above-little", 0, ""), used: 30 * mi, requested: 20 * mi},
		{pod: newPod("above-much", 0, ""), used: 90 * mi, requested: 20 * mi}, {pod: newPod("above-important", 1000, ""), used: 900 * mi, requested: 20 * mi},
		{pod: newPod("within-more-left", 0, ""), used: mi, requested: 20 * mi}, {pod: newPod("within-unimportant", -5, ""), used: mi, requested: 20 * mi},
	}
	for _, tc := range []struct {
		resource corev1.ResourceName
		want     string
	}{
		{"memory", "above-much above-little above-important within-unimportant within within-more-left"},
		{pids, "within-unimportant above-much above-little within within-more-left above-important"},
	} {
		var got []string
		for _, c := range rank(tc.resource, list) {
			got = append(got, c.pod.Name)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: order is %v, want %s", tc.resource, got, tc.want)
		}
	}
}

func TestOverLimit(t *testing.T) {
	p := newPod("p", 0, "")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other"})
	limit := func(c int, text string) {
		p.Spec.Containers[c].Resources.Limits = corev1.ResourceList{"ephemeral-storage": resource.MustParse(text)}
	}
	if limited(p) {
		t.Error("a pod without limits is measured")
	}
	size := resource.MustParse("1Mi")
	p.Spec.Volumes = []corev1.Volume{{Name: "x", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}},
		{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size, Medium: corev1.StorageMediumMemory}}}}
	if !limited(p) {
		t.Error("a pod with a limited volume is not measured")
	}
	limit(0, "10Mi")
	limit(1, "20Mi")
	const mi = 1 << 20
	for _, tc := range []struct {
		name string
		use  diskUse
		want string
	}{
		{"well", diskUse{volumes: map[string]amounts{"x": {mi, 1}, "shm": {5 * mi, 1}}, containers: map[string]amounts{"c": {9 * mi, 0}}}, ""},
		{"volume", diskUse{volumes: map[string]amounts{"x": {mi + 1, 1}}}, `Usage of EmptyDir volume "x" exceeds the limit "1Mi". `},
		{"container", diskUse{containers: map[string]amounts{"c": {9 * mi, 0}}, logs: map[string]amounts{"c": {2 * mi, 0}}}, `Container c exceeded its local ephemeral storage limit "10Mi". `},
		{"pod", diskUse{volumes: map[string]amounts{"free": {31 * mi, 1}}}, "Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. "},
	} {
		if signal, got := overLimit(p, tc.use); got != tc.want || (signal == "") != (tc.want == "") {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestRefuse(t *testing.T) {
	best, burst, tolerant, critical := newPod("best", 0, ""), newPod("burst", 0, "1Mi"), newPod("tolerant", 0, ""), newPod("critical", 2000000000, "")
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	const memory, disk = corev1.NodeMemoryPressure, corev1.NodeDiskPressure
	for _, tc := range []struct {
		pod      *corev1.Pod
		pressure []corev1.NodeConditionType
		want     string
	}{
		{best, nil, ""},
		{best, []corev1.NodeConditionType{memory}, "Pod was rejected: The node had condition: [MemoryPressure]. "},
		{burst, []corev1.NodeConditionType{memory}, ""},
		{tolerant, []corev1.NodeConditionType{memory}, ""},
		{tolerant, []corev1.NodeConditionType{memory, disk}, "Pod was rejected: The node had condition: [DiskPressure MemoryPressure]. "},
		{burst, []corev1.NodeConditionType{disk}, "Pod was rejected: The node had condition: [DiskPressure]. "},
		{burst, []corev1.NodeConditionType{corev1.NodePIDPressure}, "Pod was rejected: The node had condition: [PIDPressure]. "},
		{critical, []corev1.NodeConditionType{memory, disk}, ""},
	} {
		pressure := map[corev1.NodeConditionType]bool{corev1.NodePIDPressure: false}
		for _, kind := range tc.pressure {
			pressure[kind] = true
		}
		reason, text := refuse(tc.pod, pressure)
		if text != tc.want || (reason == "Evicted") != (tc.want != "") {
			t.Errorf("%s under %v: %q %q, want %q", tc.pod.Name, tc.pressure, reason, text, tc.want)
		}
	}
}
