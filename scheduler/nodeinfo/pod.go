// Package nodeinfo holds a node with its pods, summed up so that asking whether one more fits reads a few numbers, and a
// pod with what is asked of it reckoned once. The cache owns the living ones and copies them into snapshots; plugins read.
//
// INVARIANT: a Node's sums equal the sum over its Pods. Builds with -race check it at every change (check_on.go).
package nodeinfo

import (
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/pkg/pod"
)

// Pod is one version of a pod object with what scheduling asks of it again and again. Immutable, so it may be shared.
type Pod struct {
	*corev1.Pod

	Want     placement.Resources  // what a node must have free
	Likely   placement.Resources  // the same with a guess for containers that name nothing: for comparing nodes
	Ports    []placement.HostPort // host ports it takes
	Priority int32
	Owner    Owner    // its controller; the zero Owner when it has none
	Claims   []string // names of the claims it uses, those made for it among them
}

// Owner is a controller's UID, made cheap to compare.
type Owner = unique.Handle[types.UID]

// NewPod reckons up a pod object, which must not be changed after.
func NewPod(p *corev1.Pod) *Pod {
	n := &Pod{
		Pod:      p,
		Want:     placement.FromList(pod.Requests(p)),
		Likely:   placement.FromList(pod.LikelyRequests(p)),
		Ports:    placement.HostPorts(p),
		Priority: pod.Priority(p),
	}
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			n.Claims = append(n.Claims, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			n.Claims = append(n.Claims, ephemeral.VolumeClaimName(p, v))
		}
	}
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		n.Owner = unique.Make(ref.UID)
	}
	return n
}

// On is the pod as it will be when bound to a node.
func (p *Pod) On(node string) *Pod {
	object := *p.Pod // shares all below it, of which nothing is changed
	object.Spec.NodeName = node
	bound := *p
	bound.Pod = &object
	return &bound
}

// Key is the pod's namespace and name as people write it.
func (p *Pod) Key() string { return p.Namespace + "/" + p.Name }
