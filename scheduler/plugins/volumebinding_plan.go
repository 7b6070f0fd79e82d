package plugins

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/scheduler/framework"
)

// volumeNeeds is what a pod's claims ask of a node. Made once a trip, then only read.
type volumeNeeds struct {
	bound   []*corev1.PersistentVolume // of claims that have one; nil: it is gone
	waiting []waitingClaim             // the smallest first
}

// waitingClaim is a claim that gets its volume with the pod's node.
type waitingClaim struct {
	claim *corev1.PersistentVolumeClaim
	class *storagev1.StorageClass
	able  []*corev1.PersistentVolume // that satisfy it, wherever they are
	node  string                     // for which one is being made already; empty: for none, or for one that is gone
	// capacities say how much the class's driver has left where; nil: it does not say, and may have any
	capacities []*storagev1.CSIStorageCapacity
	counted    bool
}

func (w *waitingClaim) size() *resource.Quantity { return w.claim.Spec.Resources.Requests.Storage() }

// volumePlan is what is done for a pod on its node.
type volumePlan struct {
	bind      []volumeMatch
	provision []*corev1.PersistentVolumeClaim
}

type volumeMatch struct {
	claim  *corev1.PersistentVolumeClaim
	volume *corev1.PersistentVolume
}

// The answers, made once.
var (
	refusedNode     = framework.RefuseForGood(bindingName, "node(s) didn't match PersistentVolume's node affinity")
	refusedVolumes  = framework.RefuseForGood(bindingName, "node(s) didn't find available persistent volumes to bind")
	refusedCapacity = framework.RefuseForGood(bindingName, "node(s) did not have enough free storage")
	refusedGone     = framework.RefuseForGood(bindingName, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
)

// wait gathers what a waiting claim is decided by.
func (b *volumeBinding) wait(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) waitingClaim {
	w := waitingClaim{claim: claim, class: class}
	if chosen := claim.Annotations[volumehelpers.AnnSelectedNode]; chosen != "" {
		if _, err := b.nodes.Get(chosen); err == nil {
			w.node = chosen
			return w // it was counted when the node was chosen
		}
	}
	found, err := b.byClass.ByIndex(volumesByClass, class.Name)
	if err != nil {
		panic("reading the index of volumes: " + err.Error())
	}
	for _, o := range found {
		v := b.ownVolumes.of(o.(*corev1.PersistentVolume))
		if fits(claim, v, nil) {
			w.able = append(w.able, v)
		}
	}
	b.count(&w)
	return w
}

// count finds out how much the driver of a waiting claim has left, if it says so.
func (b *volumeBinding) count(w *waitingClaim) {
	if d, err := b.drivers.Get(w.class.Provisioner); err != nil || d.Spec.StorageCapacity == nil || !*d.Spec.StorageCapacity {
		return
	}
	w.counted = true
	all, err := b.capacities.List(labels.Everything())
	if err != nil {
		panic("listing a cache: " + err.Error())
	}
	for _, c := range all {
		if c.StorageClassName == w.class.Name && enough(c, w.size()) {
			w.capacities = append(w.capacities, c)
		}
	}
}

// fits says whether a volume may become a claim's, on a node when one is given. A selector that cannot be read fits nothing: the
// volume controller tells the user.
func fits(claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume, node *corev1.Node) bool {
	found, err := volumehelpers.FindMatchingVolume(claim, []*corev1.PersistentVolume{v}, node, nil, false, true)
	return err == nil && found != nil && volumehelpers.CheckAccessModes(claim, v)
}

func enough(c *storagev1.CSIStorageCapacity, size *resource.Quantity) bool {
	most := c.Capacity
	if c.MaximumVolumeSize != nil {
		most = c.MaximumVolumeSize
	}
	return most != nil && most.Cmp(*size) >= 0
}

// on plans for one node, or says why it will not do.
func (needs *volumeNeeds) on(node *corev1.Node) (volumePlan, *framework.Status) {
	var plan volumePlan
	for _, v := range needs.bound {
		if v == nil {
			return plan, refusedGone
		}
		if volumehelpers.CheckNodeAffinity(v, node.Labels) != nil {
			return plan, refusedNode
		}
	}
	var taken map[string]*corev1.PersistentVolume
	for i := range needs.waiting {
		w := &needs.waiting[i]
		if w.node != "" && w.node != node.Name {
			return plan, refusedVolumes
		}
		if w.node == "" {
			// The selector was read once already, when able was made.
			if v, err := volumehelpers.FindMatchingVolume(w.claim, w.able, node, taken, false, true); err == nil && v != nil {
				if taken == nil {
					taken = map[string]*corev1.PersistentVolume{}
				}
				taken[v.Name] = v
				plan.bind = append(plan.bind, volumeMatch{w.claim, v})
				continue
			}
		}
		if st := w.provision(node); st != nil {
			return plan, st
		}
		plan.provision = append(plan.provision, w.claim)
	}
	return plan, nil
}

// provision says why no volume can be made for a claim on a node, nil when one can.
func (w *waitingClaim) provision(node *corev1.Node) *framework.Status {
	switch {
	case w.class.Provisioner == "" || w.class.Provisioner == volumehelpers.NotSupportedProvisioner:
		return refusedVolumes
	case !allows(w.class.AllowedTopologies, node.Labels):
		return refusedVolumes
	case !w.counted:
		return nil
	}
	for _, c := range w.capacities {
		if c.NodeTopology == nil {
			continue // not reachable from any node
		}
		if s, err := metav1.LabelSelectorAsSelector(c.NodeTopology); err == nil && s.Matches(labels.Set(node.Labels)) {
			return nil
		}
	}
	return refusedCapacity
}

// allows says whether a class makes volumes for a node of these labels: one of its terms, if it has any, holds as a whole.
func allows(terms []corev1.TopologySelectorTerm, has map[string]string) bool {
	for _, term := range terms {
		if len(term.MatchLabelExpressions) > 0 && holds(term, has) {
			return true
		}
	}
	return len(terms) == 0
}

func holds(term corev1.TopologySelectorTerm, has map[string]string) bool {
	for _, e := range term.MatchLabelExpressions {
		value, ok := has[e.Key]
		found := false
		for _, v := range e.Values {
			found = found || ok && v == value
		}
		if !found {
			return false
		}
	}
	return true
}
