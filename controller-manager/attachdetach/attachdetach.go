// Package attachdetach has volumes of CSI drivers attached to the nodes whose pods need them, and detached when none does. It makes and
// deletes VolumeAttachments; the driver's own attacher does what they say, and tells in their status
// (https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume-attachment-v1/).
//
//	pod on a node, its claim bound to a CSI volume whose driver wants attaching ──▶ VolumeAttachment csi-HASH
//	attacher: status.attached                                                    ──▶ node.status.volumesAttached: the kubelet may mount
//	no pod wants it, the kubelet has it not in node.status.volumesInUse           ──▶ taken from volumesAttached, then deleted
//
// What always holds: a volume for one node is attached to a second only once the first one's attachment is gone; a volume is taken from
// volumesAttached, by a write that fails when the node has changed, before its attachment is deleted, so that no kubelet mounts what is being
// taken away; a node that is healthy is waited for as long as it takes, one that is not for six minutes, one that is out of service not at
// all. Everything is found again in attachments, pods and nodes; attachments with names that are not ours are not touched.
package attachdetach

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

type controller struct {
	t       loop.Tools
	patient bool
	pods    podset.Reader
	byClaim cache.Indexer // pods
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	nodes   corelisters.NodeLister
	drivers storagelisters.CSIDriverLister
	held    cache.Indexer // attachments
	memory  *memory

	forced *prometheus.CounterVec
	total  *prometheus.GaugeVec
}

// New returns the constructor. With patient, a node's silence alone never takes a volume from it.
func New(patient bool) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		c := build(t, patient)
		c.total.Reset() // what a former term counted
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "pods", Wakes: loop.Func("its node, when it begins or ends to use claims", podMoved)},
				{Resource: "persistentvolumeclaims", Wakes: loop.Func("the nodes of its pods, when it is bound", c.claimBound)},
				{Resource: "persistentvolumes", Wakes: loop.Func("the nodes of its claim's pods and of its attachments", c.volumeChanged)},
				{Resource: "volumeattachments.storage.k8s.io", Wakes: loop.Func("its node, and those that wait for its volume", c.attachmentChanged)},
				{Resource: "csidrivers.storage.k8s.io", Wakes: loop.Func("all nodes", c.driverChanged)},
				{Resource: "nodes", Wakes: loop.Func("itself, when its volumes, health or taints change", nodeChanged)},
			},
			Reconcile: c.reconcile,
			Feed:      c.feed, Feeds: "the nodes that wait for a volume, when another has given it up without having been attached",
		}
	}
}

// build makes a controller, and the indexes that it needs.
func build(t loop.Tools, patient bool) *controller {
	core, storage := t.Informers.Core().V1(), t.Informers.Storage().V1()
	c := &controller{
		t: t, patient: patient, pods: podset.NewReader(t.Informers), byClaim: indexed(core.Pods().Informer(), podsByClaim, claimKeys),
		claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(), nodes: core.Nodes().Lister(),
		drivers: storage.CSIDrivers().Lister(),
		held:    indexed(storage.VolumeAttachments().Informer(), heldByNode, func(o any) ([]string, error) { return []string{o.(*storagev1.VolumeAttachment).Spec.NodeName}, nil }),
		forced:  t.Metrics.Counter("attach_detach_controller_attachdetach_controller_forced_detaches", "Volumes taken from nodes that had not unmounted them.", "reason"),
		total:   t.Metrics.Gauge("attachdetach_controller_total_volumes", "Volumes that nodes want, and have.", "plugin_name", "state"),
	}
	indexed(storage.VolumeAttachments().Informer(), heldByVolume, volumeKeys)
	c.memory = newMemory(c.held.LastStoreSyncResourceVersion)
	return c
}

// reconcile brings what is attached to one node to what its pods want.
func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	mem := c.memory.of(key.Name)
	s, err := c.look(key.Name, mem)
	if err != nil {
		return 0, err
	}
	c.count(mem, s)
	if s.node != nil && !managed(s.node) {
		return c.settle(ctx, key.Name, s, nil)
	}
	p := decide(s)
	again, err := c.settle(ctx, key.Name, s, p.attach)
	errs := []error{err}
	p.again = sooner(p.again, again)
	for _, name := range p.attach {
		errs = append(errs, c.attach(ctx, key.Name, name, s.wants[name], mem))
	}
	c.complain(s, mem)
	if err := c.report(ctx, s, p); err != nil {
		return 0, errors.Join(append(errs, err)...) // nothing is taken away before the node knows
	}
	if len(p.detach) > 0 {
		asSeen, err := c.asSeen(ctx, key.Name, s, p)
		if errs = append(errs, err); !asSeen {
			p.detach = nil // woken when the cache has come so far
		}
	}
	for _, d := range p.detach {
		errs = append(errs, c.detach(ctx, d, mem))
	}
	if s.node == nil && len(s.have) == 0 && len(s.wants) == 0 {
		c.memory.forget(key.Name)
	}
	return p.again, errors.Join(errs...)
}

// look gathers what is known of a node.
func (c *controller) look(name string, mem *nodeMemory) (seen, error) {
	s := seen{wants: map[string]*want{}, have: map[string]*attached{}, now: time.Now(), patient: c.patient}
	var err error
	if s.node, err = c.nodes.Get(name); apierrors.IsNotFound(err) {
		s.node = nil
	} else if err != nil {
		return s, err
	}
	pods, err := c.pods.On(name)
	if err != nil {
		return s, err
	}
	for _, p := range pods {
		for _, v := range c.volumesOf(p) {
			id := attachmentName(v.Spec.CSI.VolumeHandle, v.Spec.CSI.Driver, name)
			if s.wants[id] == nil {
				s.wants[id] = &want{volume: v}
			}
			s.wants[id].pods = append(s.wants[id].pods, p)
		}
	}
	held, err := c.held.ByIndex(heldByNode, name)
	if err != nil {
		return s, err
	}
	for _, o := range held {
		va := o.(*storagev1.VolumeAttachment)
		if !ours(va) {
			continue
		}
		a := &attached{VolumeAttachment: va, going: va.DeletionTimestamp != nil || mem.deleted[va.UID]}
		if v, err := c.volumes.Get(*va.Spec.Source.PersistentVolumeName); err == nil && v.Spec.CSI != nil {
			a.volume = v
		}
		if s.wants[va.Name] != nil {
			delete(mem.since, va.UID)
		} else {
			if mem.since[va.UID].IsZero() {
				mem.since[va.UID] = s.now
			}
			a.since = mem.since[va.UID]
		}
		s.have[va.Name] = a
	}
	mem.keep(s.have, s.wants)
	if s.node != nil {
		mem.inUse = append([]corev1.UniqueVolumeName{}, s.node.Status.VolumesInUse...)
	}
	s.lastInUse = mem.inUse
	return s, nil
}

// attach makes an attachment, unless the volume is another node's.
func (c *controller) attach(ctx context.Context, node, name string, w *want, mem *nodeMemory) error {
	volume := w.volume.Name
	if !shared(w.volume) {
		if have := c.memory.reserve(volume, node, name, func() []string { return c.holders(volume, node) }); len(have) > 0 {
			c.contested(w, name, have, mem)
			return nil // woken when its attachment is gone
		}
	}
	attachments := c.t.Clients.Kube.StorageV1().VolumeAttachments()
	made, err := attachments.Create(ctx, &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: w.driver(), NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		made, err = attachments.Get(ctx, name, metav1.GetOptions{}) // in a former life, or a moment ago
	}
	version := ""
	if err == nil {
		version = made.ResourceVersion
	}
	if !shared(w.volume) {
		c.memory.attached(volume, node, version, err != nil && !refused(err), time.Now())
	}
	if err != nil {
		return fmt.Errorf("attaching volume %s to node %s: %w", volume, node, err)
	}
	return nil
}

// holders are the other nodes that have a volume attached, or are losing it.
func (c *controller) holders(volume, node string) []string {
	held, err := c.held.ByIndex(heldByVolume, volume)
	if err != nil {
		return nil // a cache does not fail
	}
	var nodes []string
	for _, o := range held {
		if on := o.(*storagev1.VolumeAttachment).Spec.NodeName; on != node {
			nodes = append(nodes, on)
		}
	}
	return nodes
}

// contested tells the pods that wait for a volume who has it, once.
func (c *controller) contested(w *want, name string, holders []string, mem *nodeMemory) {
	if mem.told[name] == contestedNote {
		return
	}
	mem.told[name] = contestedNote
	var users []*corev1.Pod
	for _, n := range holders {
		pods, err := c.pods.On(n)
		if err != nil {
			continue // a cache does not fail
		}
		for _, p := range pods {
			for _, v := range c.volumesOf(p) {
				if v.Name == w.volume.Name {
					users = append(users, p)
				}
			}
		}
	}
	for _, p := range w.pods {
		c.t.Recorder.Event(p, corev1.EventTypeWarning, "FailedAttachVolume", blocked(w.volume.Name, p, users))
	}
}

// contestedNote is what is remembered of a volume that another node has.
const contestedNote = "contested"

// complain tells pods what their attacher could not do, each time that it says something else.
func (c *controller) complain(s seen, mem *nodeMemory) {
	for name, w := range s.wants {
		a := s.have[name]
		switch {
		case a == nil:
		case a.Status.Attached || a.Status.AttachError == nil:
			delete(mem.told, name)
		case mem.told[name] != a.Status.AttachError.Message:
			mem.told[name] = a.Status.AttachError.Message
			for _, p := range w.pods {
				c.t.Recorder.Eventf(p, corev1.EventTypeWarning, "FailedAttachVolume", "AttachVolume.Attach failed for volume %q : %s", w.volume.Name, a.Status.AttachError.Message)
			}
		}
	}
}

// report writes into a node's status what its kubelet may mount, and tells the pods that waited for it.
func (c *controller) report(ctx context.Context, s seen, p plan) error {
	if s.node == nil || sameAttached(s.node.Status.VolumesAttached, p.report) {
		return nil
	}
	want := s.node.DeepCopy()
	want.Status.VolumesAttached = p.report
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().Nodes(), s.node, want); err != nil {
		return err // if it is gone, what it has mounted is to be decided by the cache that shows that
	}
	for _, name := range p.fresh {
		for _, o := range s.wants[name].pods {
			c.t.Recorder.Eventf(o, corev1.EventTypeNormal, "SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume %q ", s.wants[name].volume.Name)
		}
	}
	return nil
}

// detach ends an attachment; its attacher keeps the object until the volume is detached.
func (c *controller) detach(ctx context.Context, d detach, mem *nodeMemory) error {
	err := c.t.Clients.Kube.StorageV1().VolumeAttachments().Delete(ctx, d.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &d.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("detaching %s from node %s: %w", d.Name, d.Spec.NodeName, err)
	}
	mem.deleted[d.UID] = true
	if d.forced != "" {
		c.forced.WithLabelValues(d.forced).Inc()
		c.t.Log.Info("detaching a volume that its node has not unmounted", zap.String("node", d.Spec.NodeName), zap.String("name", *d.Spec.Source.PersistentVolumeName), zap.String("why", d.forced))
	}
	return nil
}

// count brings the metric to what is seen of a node.
func (c *controller) count(mem *nodeMemory, s seen) {
	now := map[count]int{}
	for _, w := range s.wants {
		now[count{w.driver(), "desired_state_of_world"}]++
	}
	for _, a := range s.have {
		now[count{a.Spec.Attacher, "actual_state_of_world"}]++
	}
	for k, n := range now {
		c.total.WithLabelValues("kubernetes.io/csi:"+k.driver, k.state).Add(float64(n - mem.counts[k]))
	}
	for k, n := range mem.counts {
		if _, still := now[k]; !still {
			c.total.WithLabelValues("kubernetes.io/csi:"+k.driver, k.state).Sub(float64(n))
		}
	}
	mem.counts = now
}
