package plugins

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const zoneName = "VolumeZone" // page: []zoneDemand

// volumeZone refuses nodes outside the zones that the labels of a pod's volumes name: older provisioners say so by labels in place
// of node affinity.
type volumeZone struct {
	stores
	refusal *framework.Status
}

// zoneDemand is a label that a volume has and a node must have, with one of these values.
type zoneDemand struct {
	label  string
	values []string
}

func newVolumeZone(parts framework.Parts) framework.Plugin {
	return volumeZone{newStores(parts), framework.RefuseForGood(zoneName, "node(s) had no available volume zone")}
}

func (volumeZone) Name() string { return zoneName }

// zoneLabels are those by which volumes and nodes say where they are, each with its older name.
var zoneLabels = map[string]string{
	corev1.LabelTopologyZone:            corev1.LabelFailureDomainBetaZone,
	corev1.LabelTopologyRegion:          corev1.LabelFailureDomainBetaRegion,
	corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
	corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
}

func (z volumeZone) PreFilter(nb *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	if len(p.Claims) == 0 {
		return framework.Skipped
	}
	var demands []zoneDemand
	for _, name := range p.Claims {
		claim := z.claim(p.Namespace, name)
		if claim == nil || claim.Spec.VolumeName == "" {
			continue // VolumeBinding has refused it, or finds a volume that can be reached
		}
		v := z.volume(claim.Spec.VolumeName)
		if v == nil {
			continue
		}
		for label := range zoneLabels {
			if value := v.Labels[label]; value != "" {
				demands = append(demands, zoneDemand{label, strings.Split(value, "__")}) // it may be in several zones
			}
		}
	}
	if len(demands) == 0 {
		return framework.Skipped
	}
	nb.Write(zoneName, demands)
	return nil
}

func (z volumeZone) Filter(nb *framework.Notebook, _ *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	placed := false
	for label := range zoneLabels {
		placed = placed || n.Object.Labels[label] != ""
	}
	if !placed {
		return nil // the cluster has no zones
	}
	for _, d := range framework.Read[[]zoneDemand](nb, zoneName) {
		if !d.met(n.Object.Labels) {
			return z.refusal
		}
	}
	return nil
}

func (d zoneDemand) met(has map[string]string) bool {
	value, ok := has[d.label]
	if !ok {
		value, ok = has[zoneLabels[d.label]]
	}
	for _, v := range d.values {
		if ok && v == value {
			return true
		}
	}
	return false
}

func (z volumeZone) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.NodeAdded, framework.WaiterUpdated:
		return true
	case framework.NodeUpdated:
		return !maps.Equal(e.OldNode.Labels, e.Node.Labels)
	}
	return concerns(p, e)
}
