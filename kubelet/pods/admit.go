package pods

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/pkg/pod"
)

// rejection is why a pod cannot run on this node; it ends as Failed.
type rejection struct{ reason, message string }

// apply gives the pod its last phase before anything was begun.
func (r *rejection) apply(s *state) {
	s.final = &End{Phase: corev1.PodFailed, Reason: r.reason, Message: r.message}
}

// admit says whether the pod fits this node beside the others that are there. The scheduler has asked the same, but it may have been bypassed, or
// the node may have changed since.
func admit(p *corev1.Pod, n *corev1.Node, others []*corev1.Pod) *rejection {
	if ok, err := placement.MatchesAffinity(p, n); err != nil || !ok {
		return &rejection{"NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	if t := placement.Untolerated(n.Spec.Taints, p.Spec.Tolerations, corev1.TaintEffectNoExecute); t != nil && !pod.Static(p) {
		return &rejection{"TaintToleration", fmt.Sprintf("Pod was rejected: Predicate TaintToleration failed: node(s) had untolerated taint {%s: %s}", t.Key, t.Value)}
	}
	var used placement.Resources
	var ports placement.Ports
	count := 0
	for _, o := range others {
		if pod.Terminal(o) || o.UID == p.UID {
			continue
		}
		used.Add(placement.FromList(pod.Requests(o)))
		ports.Add(placement.HostPorts(o))
		count++
	}
	if ports.Conflict(placement.HostPorts(p)) {
		return &rejection{"NodePorts", "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
	}
	short := placement.Fits(placement.FromList(pod.Requests(p)), used, placement.FromList(n.Status.Allocatable), count)
	if len(short) == 0 {
		return nil
	}
	var texts []string
	for _, s := range short {
		texts = append(texts, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", s.Resource, s.Requested, s.Used, s.Capacity))
	}
	return &rejection{"OutOf" + string(short[0].Resource), "Pod was rejected: " + strings.Join(texts, "; ")}
}
