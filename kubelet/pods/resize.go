package pods

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/pkg/pod"
)

// What is decided about pods that ask for other amounts of CPU and memory while they run; all of it is pure. A resize goes through three hands: the
// Workers let it in, one at a time, when the node has room (here, resizing.go); then the machine says what is still to be done (resize_machine.go); and the
// worker does that (resize_action.go). See https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/.

// verdict on a resize; no reason: it is let in.
type verdict struct{ reason, message string }

// waiting is a resize that is not let in yet.
type waiting struct {
	want    *corev1.Pod // as the spec asks
	have    *corev1.Pod // with what it was given
	since   time.Time   // when it was asked for
	verdict verdict     // the last one; none yet: not judged
}

// judge says whether a pod can have what it asks for now, beside the others that are there.
func judge(cfg *Config, want, have *corev1.Pod, n *corev1.Node, others []*corev1.Pod) verdict {
	if pod.Static(want) {
		return verdict{corev1.PodReasonInfeasible, "In-place resize of static-pods is not supported"}
	}
	if cfg.ExclusiveCPUs && pod.QoS(want) == corev1.PodQOSGuaranteed && otherCPU(want, have) {
		return verdict{corev1.PodReasonInfeasible, `Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"`}
	}
	plain := want.DeepCopy()
	plain.Status = corev1.PodStatus{} // what it has now is given back
	asks, room := placement.FromList(pod.Requests(plain)), placement.FromList(n.Status.Allocatable)
	for _, r := range []struct {
		name       corev1.ResourceName
		asks, room int64
	}{{corev1.ResourceMemory, asks.Memory, room.Memory}, {corev1.ResourceCPU, asks.MilliCPU, room.MilliCPU}} {
		if r.asks > r.room {
			return verdict{corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", r.name, r.asks, r.room)}
		}
	}
	a := admission{cfg: cfg, pod: plain, node: n}
	for _, o := range others {
		if !pod.Terminal(o) && o.UID != want.UID {
			a.others = append(a.others, o)
		}
	}
	if no := resources(a); no != nil {
		return verdict{corev1.PodReasonDeferred, strings.TrimPrefix(no.message, "Pod was rejected: ")}
	}
	return verdict{}
}

// otherCPU says whether some container asks for other CPU than it has.
func otherCPU(want, have *corev1.Pod) bool {
	for _, c := range pod.Containers(want) {
		old, _ := pod.Container(have, c.Name)
		if old != nil && (old.Resources.Requests.Cpu().Cmp(*c.Resources.Requests.Cpu()) != 0 || old.Resources.Limits.Cpu().Cmp(*c.Resources.Limits.Cpu()) != 0) {
			return true
		}
	}
	return false
}

// inTurn sorts the resizes that wait: those that ask for no more than the pod has come first, as they can only make room; then the more important
// ones, by priority, class of service, and how long they wait.
func inTurn(all []*waiting) {
	class := map[corev1.PodQOSClass]int{corev1.PodQOSGuaranteed: 0, corev1.PodQOSBurstable: 1, corev1.PodQOSBestEffort: 2}
	slices.SortStableFunc(all, func(a, b *waiting) int {
		if x, y := grows(a), grows(b); x != y {
			if y {
				return -1
			}
			return 1
		}
		return cmp.Or(
			cmp.Compare(pod.Priority(b.want), pod.Priority(a.want)),
			cmp.Compare(class[pod.QoS(a.want)], class[pod.QoS(b.want)]),
			a.since.Compare(b.since),
			strings.Compare(string(a.want.UID), string(b.want.UID)))
	})
}

// grows says whether the pod would ask for more of something.
func grows(w *waiting) bool {
	want, have := pod.SpecRequests(w.want), pod.SpecRequests(w.have)
	return want.Cpu().Cmp(*have.Cpu()) > 0 || want.Memory().Cmp(*have.Memory()) > 0
}

// resizeSummary is what events about resizes tell: the amounts by container, and of which generation of the pod they are.
func resizeSummary(p *corev1.Pod, generation int64, problem string) string {
	type amounts struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	summary := struct {
		Resources  *corev1.ResourceRequirements `json:"resources,omitempty"`
		Init       []amounts                    `json:"initContainers,omitempty"`
		Containers []amounts                    `json:"containers"`
		Generation int64                        `json:"generation"`
		Error      string                       `json:"error,omitempty"`
	}{Resources: p.Spec.Resources, Generation: generation, Error: problem}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; pod.Sidecar(c) {
			summary.Init = append(summary.Init, amounts{c.Name, c.Resources})
		}
	}
	for i := range p.Spec.Containers {
		summary.Containers = append(summary.Containers, amounts{p.Spec.Containers[i].Name, p.Spec.Containers[i].Resources})
	}
	text, err := json.Marshal(summary)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
