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

// Guard is a room that may refuse a pod at this node: no device is left, the node is going down.
type Guard interface {
	// Admit says why the pod must not run here, as the status of the pod shows it; an empty reason lets it in. It is asked once for each
	// pod that no kubelet has worked on yet, in the order of their arrival, and must not wait for anything.
	Admit(p *corev1.Pod) (reason, message string)
}

// admission is what the checks look at.
type admission struct {
	cfg    *Config
	pod    *corev1.Pod
	node   *corev1.Node
	others []*corev1.Pod // the pods that are there and hold something
}

// checks are asked in this order; the first that refuses is told. The scheduler has asked the same, but it may have been bypassed, or the node
// may have changed since.
var checks = []func(admission) *rejection{affinity, taints, hostPorts, resources, operatingSystem, sysctls, enforcesAppArmor}

// admit says whether the pod may run on this node beside the others that are there.
func admit(cfg *Config, p *corev1.Pod, n *corev1.Node, others []*corev1.Pod, guards []Guard) *rejection {
	a := admission{cfg: cfg, pod: p, node: n}
	for _, o := range others {
		if !pod.Terminal(o) && o.UID != p.UID {
			a.others = append(a.others, o)
		}
	}
	for _, check := range checks {
		if no := check(a); no != nil {
			return no
		}
	}
	for _, g := range guards {
		if reason, message := g.Admit(p); reason != "" {
			return &rejection{reason: reason, message: message}
		}
	}
	return nil
}

func affinity(a admission) *rejection {
	if ok, err := placement.MatchesAffinity(a.pod, a.node); err != nil || !ok {
		return &rejection{"NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	return nil
}

func taints(a admission) *rejection {
	t := placement.Untolerated(a.node.Spec.Taints, a.pod.Spec.Tolerations, corev1.TaintEffectNoExecute)
	if t == nil || pod.Static(a.pod) {
		return nil
	}
	return &rejection{"TaintToleration", fmt.Sprintf("Pod was rejected: Predicate TaintToleration failed: node(s) had untolerated taint {%s: %s}", t.Key, t.Value)}
}

func hostPorts(a admission) *rejection {
	var taken placement.Ports
	for _, o := range a.others {
		taken.Add(placement.HostPorts(o))
	}
	if taken.Conflict(placement.HostPorts(a.pod)) {
		return &rejection{"NodePorts", "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
	}
	return nil
}

// tooFew are the resources that the pod asks for and that the node has too few of.
func tooFew(a admission) []placement.Insufficient {
	var used placement.Resources
	for _, o := range a.others {
		used.Add(placement.FromList(pod.Requests(o)))
	}
	return placement.Fits(placement.FromList(pod.Requests(a.pod)), used, placement.FromList(a.node.Status.Allocatable), len(a.others))
}

func resources(a admission) *rejection {
	short := tooFew(a)
	if len(short) == 0 {
		return nil
	}
	var texts []string
	for _, s := range short {
		texts = append(texts, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", s.Resource, s.Requested, s.Used, s.Capacity))
	}
	return &rejection{"OutOf" + string(short[0].Resource), "Pod was rejected: " + strings.Join(texts, "; ")}
}
