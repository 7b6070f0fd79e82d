package pods

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/pkg/pod"
)

// What a preempted pod's status, event and condition say.
const (
	preempting        = "Preempting"
	preemptingMessage = "Preempted in order to admit critical pod"
	preemptedMessage  = "Pod was preempted by Kubelet to accommodate a critical pod."
)

// letsIn asks whether a new pod may run here. A critical pod that only lacks resources has others ended for it; their room counts as free at once,
// since the node is asked for what pods request, not for what they use.
func (ws *Workers) letsIn(p *corev1.Pod, n *corev1.Node) *rejection {
	forced := ws.forced()
	here := slices.DeleteFunc(ws.held(), func(o *corev1.Pod) bool { return ws.preempted[o.UID] || forced[o.UID] })
	no := admit(&ws.cfg, p, n, here, ws.parts.guards())
	if no == nil || !pod.Critical(p) {
		return no
	}
	others := slices.DeleteFunc(slices.Clone(here), func(o *corev1.Pod) bool { return pod.Terminal(o) || o.UID == p.UID })
	short := tooFew(admission{cfg: &ws.cfg, pod: p, node: n, others: others})
	if len(short) == 0 {
		return no
	}
	victims, missing := preempt(p, others, short)
	if len(missing) > 0 {
		return &rejection{reason: "UnexpectedAdmissionError", message: "Pod was rejected: Unexpected error while attempting to recover from admission failure: " +
			"preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: " + missing.String()}
	}
	going := map[types.UID]bool{}
	for _, v := range victims {
		going[v.UID] = true
	}
	left := slices.DeleteFunc(slices.Clone(here), func(o *corev1.Pod) bool { return going[o.UID] })
	if no := admit(&ws.cfg, p, n, left, ws.parts.guards()); no != nil {
		return no // something else stands in the way as well: nobody is ended for nothing
	}
	for _, v := range victims {
		ws.preempted[v.UID] = true
		ws.Evict(v.UID, preempting, preemptingMessage, grace(v), preemptedMessage)
	}
	return nil
}

// forced are the pods that end here and of which nobody else knows any more: deleted by force, or their file is gone. The scheduler counts them no
// longer, so whom it sends is not refused for them; it waits for their host ports.
func (ws *Workers) forced() map[types.UID]bool {
	out := map[types.UID]bool{}
	for _, w := range ws.all() {
		w.mu.Lock()
		out[w.uid] = w.gone
		w.mu.Unlock()
	}
	return out
}

// demand is how much more of each resource must be free.
type demand []placement.Insufficient

// String lists the resources as users know it.
func (d demand) String() string {
	var b strings.Builder
	for _, s := range d {
		fmt.Fprintf(&b, "(res: %s, q: %d), ", s.Resource, (s.Requested - s.Capacity + s.Used))
	}
	return "[" + b.String() + "]"
}

// less is the demand that is left when the pods are gone.
func (d demand) less(pods ...*corev1.Pod) demand {
	var out demand
	for _, s := range d {
		for _, p := range pods {
			s.Used -= gives(p, s.Resource)
		}
		if s.Requested > s.Capacity-s.Used {
			out = append(out, s)
		}
	}
	return out
}

func gives(p *corev1.Pod, r corev1.ResourceName) int64 {
	if r == corev1.ResourcePods {
		return 1
	}
	return placement.FromList(pod.Requests(p)).Of(r)
}

// preempt chooses the pods to end so that a critical pod fits. It is pure. As few guaranteed pods as can be, then as few burstable ones; what no choice
// could give is returned as missing.
func preempt(p *corev1.Pod, others []*corev1.Pod, short []placement.Insufficient) (victims []*corev1.Pod, missing demand) {
	classes := map[corev1.PodQOSClass][]*corev1.Pod{}
	for _, o := range others {
		if yields(o, p) {
			classes[pod.QoS(o)] = append(classes[pod.QoS(o)], o)
		}
	}
	best, burst, sure := classes[corev1.PodQOSBestEffort], classes[corev1.PodQOSBurstable], classes[corev1.PodQOSGuaranteed]
	need := demand(short)
	if missing = need.less(slices.Concat(best, burst, sure)...); len(missing) > 0 {
		return nil, missing
	}
	first := fewest(sure, need.less(slices.Concat(best, burst)...))
	second := fewest(burst, need.less(slices.Concat(best, first)...))
	third := fewest(best, need.less(slices.Concat(first, second)...))
	return slices.Concat(third, second, first), nil
}

// yields: critical pods end for nobody but who is more important still.
func yields(o, p *corev1.Pod) bool {
	return !pod.Critical(o) || !pod.Static(o) && pod.Priority(p) > pod.Priority(o)
}

// fewest takes pods, one by one the one that leaves least to be wished for, the smaller of two alike, until nothing is.
func fewest(from []*corev1.Pod, need demand) []*corev1.Pod {
	left := slices.Clone(from)
	var out []*corev1.Pod
	for len(need) > 0 && len(left) > 0 {
		next := 0
		for i := range left {
			a, b := need.after(left[i]), need.after(left[next])
			if a < b || a == b && smaller(left[i], left[next]) {
				next = i
			}
		}
		out = append(out, left[next])
		need = need.less(left[next])
		left = slices.Delete(left, next, next+1)
	}
	return out
}

// after is how much is still wished for when the pod is gone, as a sum of parts of what is wished for now.
func (d demand) after(p *corev1.Pod) float64 {
	sum := 0.0
	for _, s := range d {
		missing := (s.Requested - s.Capacity + s.Used)
		if rest := missing - gives(p, s.Resource); rest > 0 {
			sum += float64(rest) / float64(missing)
		}
	}
	return sum
}

func smaller(a, b *corev1.Pod) bool {
	x, y := placement.FromList(pod.Requests(a)), placement.FromList(pod.Requests(b))
	if x.Memory != y.Memory {
		return x.Memory < y.Memory
	}
	if x.MilliCPU != y.MilliCPU {
		return x.MilliCPU < y.MilliCPU
	}
	return a.UID < b.UID
}
