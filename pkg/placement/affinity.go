package placement

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Required is a pod's nodeSelector and required node affinity, parsed once to be matched against many nodes.
type Required struct {
	all bool // nothing is required
	nodeaffinity.RequiredNodeAffinity
}

// RequiredAffinity parses what a pod requires of its node's labels and name.
func RequiredAffinity(p *corev1.Pod) Required {
	a := p.Spec.Affinity
	if len(p.Spec.NodeSelector) == 0 &&
		(a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil) {
		return Required{all: true}
	}
	return Required{RequiredNodeAffinity: nodeaffinity.GetRequiredNodeAffinity(p)}
}

// Any says that every node will do.
func (r Required) Any() bool { return r.all }

// Match says whether a node will do. An error means that no term matched and one of them cannot be read.
func (r Required) Match(n *corev1.Node) (bool, error) {
	if r.all {
		return true, nil
	}
	ok, err := r.RequiredNodeAffinity.Match(n)
	if err != nil {
		return false, fmt.Errorf("reading node affinity: %w", err)
	}
	return ok, nil
}

// MatchesAffinity says whether one node satisfies one pod's nodeSelector and required affinity.
func MatchesAffinity(p *corev1.Pod, n *corev1.Node) (bool, error) {
	return RequiredAffinity(p).Match(n)
}
