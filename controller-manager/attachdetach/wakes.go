package attachdetach

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
)

// Names of indexes: pods by the keys of their claims, attachments by node and by volume.
const (
	podsByClaim  = "attachdetach claim"
	heldByNode   = "attachdetach node"
	heldByVolume = "attachdetach volume"
)

// indexed adds an index to an informer, which is not running yet; one that is, is a broken table.
func indexed(inf cache.SharedIndexInformer, name string, keys cache.IndexFunc) cache.Indexer {
	if _, there := inf.GetIndexer().GetIndexers()[name]; !there {
		if err := inf.AddIndexers(cache.Indexers{name: keys}); err != nil {
			panic("indexing for attachdetach: " + err.Error())
		}
	}
	return inf.GetIndexer()
}

func claimKeys(o any) ([]string, error) {
	p := o.(*corev1.Pod)
	var keys []string
	for _, name := range claimsOf(p) {
		keys = append(keys, loop.Key{Namespace: p.Namespace, Name: name}.String())
	}
	return keys, nil
}

func volumeKeys(o any) ([]string, error) {
	if name := o.(*storagev1.VolumeAttachment).Spec.Source.PersistentVolumeName; name != nil {
		return []string{*name}, nil
	}
	return nil, nil
}

// claimsOf names the claims of a pod, those that were made for it among them.
func claimsOf(p *corev1.Pod) []string {
	var names []string
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, p.Name+"-"+v.Name)
		}
	}
	return names
}

// needs says on which node a pod needs its volumes; empty: on none.
func needs(p *corev1.Pod) string {
	if p == nil || pod.Terminal(p) || len(claimsOf(p)) == 0 {
		return ""
	}
	return p.Spec.NodeName
}

func podMoved(e loop.Event) []loop.Key {
	old, _ := e.Old.(*corev1.Pod)
	now, _ := e.New.(*corev1.Pod)
	was, is := needs(old), needs(now)
	if was == is && (old == nil || now == nil || old.UID == now.UID) {
		return nil // another pod of the name, whose coming and going were one event, has other claims
	}
	return named(was, is)
}

// named are the keys of nodes, without those that have no name.
func named(nodes ...string) []loop.Key {
	var keys []loop.Key
	for _, n := range nodes {
		if k := (loop.Key{Name: n}); n != "" && !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// nodesOf are the nodes of the pods that use a claim.
func (c *controller) nodesOf(claim loop.Key) []string {
	pods, err := c.byClaim.ByIndex(podsByClaim, claim.String())
	if err != nil {
		return nil // a cache does not fail
	}
	var nodes []string
	for _, o := range pods {
		nodes = append(nodes, needs(o.(*corev1.Pod)))
	}
	return nodes
}

func (c *controller) claimBound(e loop.Event) []loop.Key {
	old, _ := e.Old.(*corev1.PersistentVolumeClaim)
	now, _ := e.New.(*corev1.PersistentVolumeClaim)
	if old != nil && now != nil && old.Spec.VolumeName == now.Spec.VolumeName && old.Status.Phase == now.Status.Phase {
		return nil
	}
	return named(c.nodesOf(loop.KeyOf(e.Last()))...)
}

func (c *controller) volumeChanged(e loop.Event) []loop.Key {
	old, _ := e.Old.(*corev1.PersistentVolume)
	now, _ := e.New.(*corev1.PersistentVolume)
	if last := e.Last().(*corev1.PersistentVolume); last.Spec.CSI == nil {
		return nil
	}
	if old != nil && now != nil && equality.Semantic.DeepEqual(old.Spec, now.Spec) {
		return nil
	}
	return named(c.around(e.Last().(*corev1.PersistentVolume))...)
}

// around are the nodes that want a volume, and those that have it.
func (c *controller) around(v *corev1.PersistentVolume) []string {
	var nodes []string
	if ref := v.Spec.ClaimRef; ref != nil {
		nodes = c.nodesOf(loop.Key{Namespace: ref.Namespace, Name: ref.Name})
	}
	return append(nodes, c.holders(v.Name, "")...)
}

func (c *controller) attachmentChanged(e loop.Event) []loop.Key {
	a := e.Last().(*storagev1.VolumeAttachment)
	nodes := []string{a.Spec.NodeName}
	if name := a.Spec.Source.PersistentVolumeName; e.New == nil && name != nil {
		if v, err := c.volumes.Get(*name); err == nil {
			nodes = append(nodes, c.around(v)...)
		}
	}
	return named(nodes...)
}

func (c *controller) driverChanged(e loop.Event) []loop.Key {
	old, _ := e.Old.(*storagev1.CSIDriver)
	now, _ := e.New.(*storagev1.CSIDriver)
	if needsAttaching(old) == needsAttaching(now) {
		return nil
	}
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var nodes []string
	for _, n := range all {
		nodes = append(nodes, n.Name)
	}
	return named(nodes...)
}

// needsAttaching says whether a driver's volumes are to be attached: unless it says otherwise, and also while it says nothing.
func needsAttaching(d *storagev1.CSIDriver) bool {
	return d == nil || d.Spec.AttachRequired == nil || *d.Spec.AttachRequired
}

func nodeChanged(e loop.Event) []loop.Key {
	old, _ := e.Old.(*corev1.Node)
	now, _ := e.New.(*corev1.Node)
	if old != nil && now != nil && old.UID == now.UID && alike(old, now) {
		return nil
	}
	return named(e.Last().GetName())
}

// volumesOf are the volumes that a pod needs to be attached to its node, as far as its claims are bound.
func (c *controller) volumesOf(p *corev1.Pod) []*corev1.PersistentVolume {
	if needs(p) == "" {
		return nil
	}
	var volumes []*corev1.PersistentVolume
	for i := range p.Spec.Volumes {
		src, name := &p.Spec.Volumes[i], ""
		switch {
		case src.PersistentVolumeClaim != nil:
			name = src.PersistentVolumeClaim.ClaimName
		case src.Ephemeral != nil:
			name = p.Name + "-" + src.Name
		default:
			continue
		}
		claim, err := c.claims.PersistentVolumeClaims(p.Namespace).Get(name)
		if err != nil || claim.Status.Phase != corev1.ClaimBound || src.Ephemeral != nil && !metav1.IsControlledBy(claim, p) {
			continue // woken when it is there, and bound
		}
		v, err := c.volumes.Get(claim.Spec.VolumeName)
		if err != nil || v.Spec.CSI == nil || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != claim.UID || slices.Contains(volumes, v) {
			continue
		}
		driver, err := c.drivers.Get(v.Spec.CSI.Driver)
		if err != nil {
			driver = nil // a driver that says nothing
		}
		if needsAttaching(driver) {
			volumes = append(volumes, v)
		}
	}
	return volumes
}
