package plugins

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const limitsName = "NodeVolumeLimits" // page: map[attachable]bool

// volumeLimits refuses nodes to which a driver cannot attach as many volumes more as a pod needs: how many it can at all stands in
// the node's CSINode.
type volumeLimits struct {
	stores
	nodes       storagelisters.CSINodeLister
	attachments cache.Indexer
	refusal     *framework.Status
}

// attachable is a volume of a driver: its handle, or the claim that it will be made for.
type attachable struct{ driver, volume string }

const attachmentsByNode = "node"

func newVolumeLimits(parts framework.Parts) framework.Plugin {
	storage := parts.Informers.Storage().V1()
	attachments := storage.VolumeAttachments().Informer()
	err := attachments.AddIndexers(cache.Indexers{attachmentsByNode: func(o any) ([]string, error) {
		return []string{o.(*storagev1.VolumeAttachment).Spec.NodeName}, nil
	}})
	if err != nil {
		panic("indexing attachments: " + err.Error())
	}
	return volumeLimits{newStores(parts), storage.CSINodes().Lister(), attachments.GetIndexer(),
		framework.Refuse(limitsName, "node(s) exceed max volume count")}
}

func (volumeLimits) Name() string { return limitsName }

func (l volumeLimits) PreFilter(nb *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	if len(p.Claims) == 0 {
		return framework.Skipped
	}
	needs := map[attachable]bool{}
	l.add(needs, p)
	if len(needs) == 0 {
		return framework.Skipped
	}
	nb.Write(limitsName, needs)
	return nil
}

// add adds what a pod's claims have attached, or will have.
func (l volumeLimits) add(to map[attachable]bool, p *nodeinfo.Pod) {
	for _, name := range p.Claims {
		claim := l.claim(p.Namespace, name)
		if claim == nil {
			continue
		}
		if claim.Spec.VolumeName != "" {
			if a, ok := attached(l.volume(claim.Spec.VolumeName)); ok {
				to[a] = true
			}
		} else if class := l.class(claim); class != nil {
			to[attachable{class.Provisioner, p.Namespace + "/" + name}] = true
		}
	}
}

func attached(v *corev1.PersistentVolume) (attachable, bool) {
	if v == nil || v.Spec.CSI == nil {
		return attachable{}, false
	}
	return attachable{v.Spec.CSI.Driver, v.Spec.CSI.VolumeHandle}, true
}

func (l volumeLimits) Filter(nb *framework.Notebook, _ *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	node, err := l.nodes.Get(n.Name)
	if err != nil {
		return nil // no driver says anything
	}
	needs := framework.Read[map[attachable]bool](nb, limitsName)
	var has map[attachable]bool
	for i := range node.Spec.Drivers {
		d := &node.Spec.Drivers[i]
		if d.Allocatable == nil || d.Allocatable.Count == nil || !wanted(needs, d.Name) {
			continue
		}
		if has == nil {
			has = l.on(n)
		}
		used, more := 0, 0
		for a := range has {
			if a.driver == d.Name {
				used++
			}
		}
		for a := range needs {
			if a.driver == d.Name && !has[a] {
				more++
			}
		}
		if more > 0 && used+more > int(*d.Allocatable.Count) {
			return l.refusal
		}
	}
	return nil
}

func wanted(needs map[attachable]bool, driver string) bool {
	for a := range needs {
		if a.driver == driver {
			return true
		}
	}
	return false
}

// on is what is attached to a node: to its pods, and what is not yet detached.
func (l volumeLimits) on(n *nodeinfo.Node) map[attachable]bool {
	has := map[attachable]bool{}
	for _, p := range n.Pods {
		l.add(has, p)
	}
	left, err := l.attachments.ByIndex(attachmentsByNode, n.Name)
	if err != nil {
		panic("reading the index of attachments: " + err.Error())
	}
	for _, o := range left {
		if name := o.(*storagev1.VolumeAttachment).Spec.Source.PersistentVolumeName; name != nil {
			if a, ok := attached(l.volume(*name)); ok {
				has[a] = true
			}
		}
	}
	return has
}

func (volumeLimits) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.NodeAdded, framework.WaiterUpdated, framework.DriversChanged:
		return true
	case framework.PodGone:
		return len(e.Pod.Claims) > 0
	}
	return concerns(p, e)
}
