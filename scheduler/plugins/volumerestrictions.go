package plugins

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const restrictionsName = "VolumeRestrictions" // page: *soleUse

// volumeRestrictions keeps a claim of the access mode ReadWriteOncePod to one pod in the whole cluster. Evicting that pod helps.
type volumeRestrictions struct {
	stores
	refusal *framework.Status
}

// soleUse is what a pod wants for itself alone, and how often others use that.
type soleUse struct {
	claims []string
	all    int
	on     map[string]int // by node
}

func newVolumeRestrictions(parts framework.Parts) framework.Plugin {
	return volumeRestrictions{newStores(parts), framework.Refuse(restrictionsName,
		"node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode")}
}

func (volumeRestrictions) Name() string { return restrictionsName }

func (r volumeRestrictions) PreFilter(nb *framework.Notebook, p *nodeinfo.Pod, nodes []*nodeinfo.Node) *framework.Status {
	if len(p.Claims) == 0 {
		return framework.Skipped
	}
	use := &soleUse{}
	for _, name := range p.Claims {
		if c := r.claim(p.Namespace, name); c != nil && slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) {
			use.claims = append(use.claims, name)
		}
	}
	if len(use.claims) == 0 {
		return framework.Skipped
	}
	use.on = map[string]int{}
	for _, n := range nodes {
		if count := use.count(p, n); count > 0 {
			use.on[n.Name] = count
			use.all += count
		}
	}
	nb.Write(restrictionsName, use)
	return nil
}

// count is how often the pods on a node use the claims.
func (u *soleUse) count(p *nodeinfo.Pod, n *nodeinfo.Node) (count int) {
	for _, other := range n.Pods {
		if other.UID == p.UID {
			continue
		}
		for _, name := range u.claims {
			if uses(other, p.Namespace, name) {
				count++
			}
		}
	}
	return count
}

// Filter looks at the node as it is given: pods may have been taken off it for trial.
func (r volumeRestrictions) Filter(nb *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	use := framework.Read[*soleUse](nb, restrictionsName)
	if elsewhere := use.all - use.on[n.Name]; elsewhere > 0 || use.count(p, n) > 0 {
		return r.refusal
	}
	return nil
}

func (volumeRestrictions) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.PodGone:
		return slices.ContainsFunc(e.Pod.Claims, func(name string) bool { return uses(p, e.Pod.Namespace, name) })
	case framework.WaiterUpdated:
		return true
	}
	return concerns(p, e)
}
