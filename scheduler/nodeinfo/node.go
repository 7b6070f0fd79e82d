package nodeinfo

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/placement"
)

// Node is a node and the pods on it, assumed ones among them.
type Node struct {
	Name   string
	Object *corev1.Node // nil while pods are known to be on a node that is not: it takes no pods

	Pods        []*Pod // in no order
	Allocatable placement.Resources
	Used        placement.Resources // sum of the pods' Want
	Likely      placement.Resources // sum of the pods' Likely
	Ports       placement.Ports
	Nominated   []*Pod // not here yet, but room is being made for them; in no sum
	Zone        string // region and zone label; empty when it has none

	owners []ownerCount // pods per controller; a short list, cheaper to search and to copy than a map
}

type ownerCount struct {
	owner Owner
	pods  int32
}

// NewNode makes an empty node that has no object yet.
func NewNode(name string) *Node { return &Node{Name: name} }

// SetObject gives the node its object, nil when that is gone.
func (n *Node) SetObject(object *corev1.Node) {
	n.Object = object
	n.Allocatable, n.Zone = placement.Resources{}, ""
	if object == nil {
		return
	}
	n.Allocatable = placement.FromList(object.Status.Allocatable)
	region, zone := object.Labels[corev1.LabelTopologyRegion], object.Labels[corev1.LabelTopologyZone]
	if region != "" || zone != "" {
		n.Zone = region + "/" + zone
	}
}

// Add puts a pod on the node.
func (n *Node) Add(p *Pod) {
	n.Pods = append(n.Pods, p)
	n.Used.Add(p.Want)
	n.Likely.Add(p.Likely)
	n.Ports.Add(p.Ports)
	n.count(p.Owner, 1)
	n.check()
}

// Remove takes the pod with this UID off the node and says whether it was there.
func (n *Node) Remove(uid types.UID) bool {
	i := slices.IndexFunc(n.Pods, func(p *Pod) bool { return p.UID == uid })
	if i < 0 {
		return false
	}
	p := n.Pods[i]
	last := len(n.Pods) - 1
	n.Pods[i] = n.Pods[last]
	n.Pods[last] = nil
	n.Pods = n.Pods[:last]
	n.Used.Sub(p.Want)
	n.Likely.Sub(p.Likely)
	n.Ports.Remove(p.Ports)
	n.count(p.Owner, -1)
	n.check()
	return true
}

// Of is how many pods of one controller are on the node.
func (n *Node) Of(owner Owner) int32 {
	for i := range n.owners {
		if n.owners[i].owner == owner {
			return n.owners[i].pods
		}
	}
	return 0
}

func (n *Node) count(owner Owner, by int32) {
	if owner == (Owner{}) {
		return
	}
	i := slices.IndexFunc(n.owners, func(c ownerCount) bool { return c.owner == owner })
	switch {
	case i < 0:
		n.owners = append(n.owners, ownerCount{owner, by})
	case n.owners[i].pods+by == 0:
		last := len(n.owners) - 1
		n.owners[i] = n.owners[last]
		n.owners = n.owners[:last]
	default:
		n.owners[i].pods += by
	}
}

// With is a copy of the node on which these pods stand too.
func (n *Node) With(pods []*Pod) *Node {
	c := n.Clone()
	for _, p := range pods {
		c.Add(p)
	}
	return c
}

// CopyTo makes to equal to n and independent of it, using again the memory that to already has. Pods and the node object
// are immutable and shared.
func (n *Node) CopyTo(to *Node) {
	pods, owners := append(to.Pods[:0], n.Pods...), append(to.owners[:0], n.owners...)
	if rest := len(to.Pods) - len(pods); rest > 0 {
		clear(to.Pods[len(pods):]) // or the memory of pods long gone would be kept
	}
	*to = *n
	to.Pods, to.owners = pods, owners
	to.Nominated = slices.Clone(n.Nominated)
	to.Allocatable.Others = maps.Clone(n.Allocatable.Others)
	to.Used.Others = maps.Clone(n.Used.Others)
	to.Likely.Others = maps.Clone(n.Likely.Others)
	to.Ports = n.Ports.Clone()
}

// Clone is a copy for trying things out on.
func (n *Node) Clone() *Node {
	c := &Node{}
	n.CopyTo(c)
	return c
}
