package plugins

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/ephemeral"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const bindingName = "VolumeBinding" // page: *volumeNeeds

// volumeBinding refuses nodes from which the volumes of a pod's claims cannot be reached, and gives claims that wait for their first
// consumer a volume that can be, or a node for which one is to be made
// (https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode). Before a pod is bound it writes what it has
// chosen and waits until the volume controller and the provisioners have made it true.
type volumeBinding struct {
	stores
	kube       kubernetes.Interface
	nodes      corelisters.NodeLister
	drivers    storagelisters.CSIDriverLister
	capacities storagelisters.CSIStorageCapacityLister
	byClass    cache.Indexer // volumes

	ownClaims  *assumed[*corev1.PersistentVolumeClaim]
	ownVolumes *assumed[*corev1.PersistentVolume]

	mu sync.Mutex
	// Guarded by mu.
	kept    map[types.UID]*volumePlan                        // by pod
	waiters map[cache.ObjectName]map[types.UID]chan struct{} // by claim and pod; one slot each
}

const volumesByClass = "class"

func newVolumeBinding(parts framework.Parts) framework.Plugin {
	core, storage := parts.Informers.Core().V1(), parts.Informers.Storage().V1()
	b := &volumeBinding{
		stores: newStores(parts), kube: parts.Kube, nodes: core.Nodes().Lister(),
		drivers: storage.CSIDrivers().Lister(), capacities: storage.CSIStorageCapacities().Lister(),
		byClass:   core.PersistentVolumes().Informer().GetIndexer(),
		ownClaims: newAssumed[*corev1.PersistentVolumeClaim](), ownVolumes: newAssumed[*corev1.PersistentVolume](),
		kept: map[types.UID]*volumePlan{}, waiters: map[cache.ObjectName]map[types.UID]chan struct{}{},
	}
	err := core.PersistentVolumes().Informer().AddIndexers(cache.Indexers{volumesByClass: func(o any) ([]string, error) {
		return []string{volumehelpers.GetPersistentVolumeClass(o.(*corev1.PersistentVolume))}, nil
	}})
	if err == nil {
		err = b.listen(core.Nodes().Informer(), core.PersistentVolumeClaims().Informer(), core.PersistentVolumes().Informer())
	}
	if err != nil {
		panic("preparing the informers of storage: " + err.Error()) // they had been started: a broken main
	}
	return b
}

func (*volumeBinding) Name() string { return bindingName }

func (b *volumeBinding) PreFilter(nb *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	if len(p.Claims) == 0 {
		return framework.Skipped
	}
	needs, why := b.needs(p)
	if why != "" {
		return framework.RefuseForGood(bindingName, why)
	}
	nb.Write(bindingName, needs)
	return nil
}

func (b *volumeBinding) Filter(nb *framework.Notebook, _ *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	_, refusal := framework.Read[*volumeNeeds](nb, bindingName).on(n.Object)
	return refusal
}

// needs sorts a pod's claims, or says why no node will do.
func (b *volumeBinding) needs(p *nodeinfo.Pod) (needs *volumeNeeds, why string) {
	needs = &volumeNeeds{}
	immediate := false
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		name := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			name = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			name = ephemeral.VolumeClaimName(p.Pod, v)
		default:
			continue
		}
		claim := b.claim(p.Namespace, name)
		switch {
		case claim == nil && v.Ephemeral != nil:
			return nil, fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		case claim == nil:
			return nil, fmt.Sprintf("persistentvolumeclaim %q not found", name)
		case claim.Status.Phase == corev1.ClaimLost:
			return nil, fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
		case claim.DeletionTimestamp != nil:
			return nil, fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
		}
		if v.Ephemeral != nil {
			if err := ephemeral.VolumeIsForPod(p.Pod, claim); err != nil {
				return nil, err.Error()
			}
		}
		claim = b.ownClaims.of(claim)
		switch class := b.class(claim); {
		case settled(claim):
			needs.bound = append(needs.bound, b.volume(claim.Spec.VolumeName))
		case claim.Spec.VolumeName == "" && delayed(class):
			needs.waiting = append(needs.waiting, b.wait(claim, class))
		default:
			immediate = true
		}
	}
	if immediate {
		return nil, "pod has unbound immediate PersistentVolumeClaims"
	}
	// The smallest first, so that it does not get the only volume that is large enough for another.
	slices.SortStableFunc(needs.waiting, func(x, y waitingClaim) int {
		return cmp.Or(x.size().Cmp(*y.size()), cmp.Compare(x.claim.Name, y.claim.Name))
	})
	return needs, ""
}

func (b *volumeBinding) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.NodeAdded, framework.WaiterUpdated, framework.StorageChanged:
		return true
	case framework.NodeUpdated:
		return !maps.Equal(e.OldNode.Labels, e.Node.Labels)
	case framework.NodeGone: // a volume is being made there that can now be made elsewhere
		return slices.ContainsFunc(p.Claims, func(name string) bool {
			claim := b.claim(p.Namespace, name)
			return claim != nil && claim.Annotations[volumehelpers.AnnSelectedNode] == e.Node.Name
		})
	case framework.PodGone: // or not bound after all: what was kept for it is free
		return len(e.Pod.Claims) > 0
	case framework.ClaimChanged:
		return concerns(p, e)
	case framework.VolumeChanged:
		return concerns(p, e) || e.Volume.Spec.ClaimRef == nil && b.wantsClass(p, volumehelpers.GetPersistentVolumeClass(e.Volume))
	case framework.ClassChanged:
		return b.wantsClass(p, e.Class.Name)
	}
	return false
}

// wantsClass says whether a claim of the pod is of a class.
func (b *volumeBinding) wantsClass(p *nodeinfo.Pod, class string) bool {
	return slices.ContainsFunc(p.Claims, func(name string) bool {
		claim := b.claim(p.Namespace, name)
		return claim != nil && volumehelpers.GetPersistentVolumeClaimClass(claim) == class
	})
}
