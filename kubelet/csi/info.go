package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"pilothouse.dev/kubelet/plugins"
)

// nodeIDs is the annotation of nodes that says how drivers call them.
const nodeIDs = "csi.volume.kubernetes.io/nodeid"

// nodeInfo is what a driver says of this node.
type nodeInfo struct {
	id       string
	most     int64 // volumes; 0 for any number
	topology map[string]string
}

// Register takes in a driver, or a newer life of one. It asks it for the node; what it said is told to the API as soon as that answers.
func (d *Drivers) Register(ctx context.Context, p plugins.Plugin) error {
	if !slices.ContainsFunc(p.Versions, func(v string) bool { return strings.HasPrefix(strings.TrimPrefix(v, "v"), "1.") }) {
		return fmt.Errorf("kubernetes.io/csi: validating driver %s: none of the CSI versions reported by this driver are supported: %q", p.Name, p.Versions)
	}
	have := driver{name: p.Name, endpoint: p.Endpoint, took: d.took}
	if err := have.ask(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	d.drivers[p.Name] = have
	delete(d.gone, p.Name)
	d.mu.Unlock()
	d.arrived.Store(true)
	poke(d.told)
	poke(d.idle)
	return nil
}

// Deregister forgets a driver. What it has published stays.
func (d *Drivers) Deregister(_ context.Context, name string) {
	d.mu.Lock()
	delete(d.drivers, name)
	d.gone[name] = true
	d.mu.Unlock()
	poke(d.told)
}

// ask asks a driver for this node.
func (d *driver) ask(ctx context.Context) error {
	return d.call(ctx, func(ctx context.Context, c spec.NodeClient) error {
		said, err := c.NodeGetInfo(ctx, &spec.NodeGetInfoRequest{})
		if err != nil {
			return fmt.Errorf("calling NodeGetInfo: %w", err)
		}
		if said.NodeId == "" {
			return errors.New("calling NodeGetInfo: node ID is empty")
		}
		info := nodeInfo{id: said.NodeId, most: max(said.MaxVolumesPerNode, 0), topology: said.GetAccessibleTopology().GetSegments()}
		if err := info.check(d.name); err != nil {
			return fmt.Errorf("calling NodeGetInfo: %w", err)
		}
		d.info = info
		d.asked = time.Now()
		return nil
	})
}

const (
	longestName   = 63
	longestNodeID = 192
)

// check refuses what the API would: the CSINode is written for all drivers at once, so one could keep the others from it.
func (i nodeInfo) check(name string) error {
	var wrong []string
	add := func(what, value string, said []string) {
		for _, s := range said {
			wrong = append(wrong, fmt.Sprintf("%s %q: %s", what, value, s))
		}
	}
	add("driver name", name, validation.IsDNS1123Subdomain(strings.ToLower(name)))
	if len(name) > longestName {
		add("driver name", name, []string{validation.MaxLenError(longestName)})
	}
	if len(i.id) > longestNodeID {
		add("node ID", i.id, []string{validation.MaxLenError(longestNodeID)})
	}
	for _, key := range slices.Sorted(maps.Keys(i.topology)) {
		add("topology key", key, validation.IsQualifiedName(key))
		add("topology value", i.topology[key], validation.IsValidLabelValue(i.topology[key]))
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

const (
	settled = 2 * time.Minute // after its start a kubelet knows which drivers did not come again
	hurry   = time.Second     // before the API is tried again, the first time
	calm    = time.Minute     // and at most
)

// tell keeps the node's CSINode, and what its Node says of drivers, until ctx ends.
func (d *Drivers) tell(ctx context.Context) {
	begun, wait, said := time.Now(), time.Duration(0), ""
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.told:
		case <-timer.C:
		}
		all := time.Since(begun) >= settled
		again := d.inquire(ctx)
		err := d.report(ctx, all)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if text := err.Error(); text != said {
				said = text
				d.log.Warn("telling the API of drivers", zap.Error(err))
			}
			wait = min(max(2*wait, hurry), calm)
			timer.Reset(wait)
			continue
		}
		wait, said = 0, ""
		if !all {
			again = sooner(again, settled-time.Since(begun))
		}
		if again > 0 {
			timer.Reset(again)
		} else {
			timer.Stop()
		}
	}
}

// sooner is the smaller of two times to wait, of which 0 is for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// inquire asks those drivers anew whose objects say that the number of volumes changes, when it is time; it returns when it is next
// (https://kubernetes.io/docs/concepts/storage/storage-limits/#mutable-csi-node-allocatable-count).
func (d *Drivers) inquire(ctx context.Context) (again time.Duration) {
	d.mu.Lock()
	drivers := maps.Clone(d.drivers)
	d.mu.Unlock()
	for name, have := range drivers {
		o, err := d.object(ctx, name)
		if err != nil || o == nil || o.Spec.NodeAllocatableUpdatePeriodSeconds == nil {
			continue
		}
		every := time.Duration(*o.Spec.NodeAllocatableUpdatePeriodSeconds) * time.Second
		if wait := every - time.Since(have.asked); wait > 0 {
			again = sooner(again, wait)
			continue
		}
		newer := have
		if err := newer.ask(ctx); err != nil {
			d.log.Warn("asking a driver for the node", zap.String("name", name), zap.Error(err))
			newer.asked = time.Now() // it is asked again when it is time again
		}
		again = sooner(again, every)
		d.mu.Lock()
		if now, there := d.drivers[name]; there && now.asked.Equal(have.asked) {
			d.drivers[name] = newer
		}
		d.mu.Unlock()
	}
	return again
}

// report brings the CSINode and the Node to what drivers said. all says that drivers that are not registered are gone, otherwise only those
// are that went in this life.
func (d *Drivers) report(ctx context.Context, all bool) error {
	n, _ := d.self()
	if n == nil {
		return nil // told when it is there
	}
	d.mu.Lock()
	drivers, gone := maps.Clone(d.drivers), maps.Clone(d.gone)
	d.mu.Unlock()
	left := func(name string) bool {
		_, here := drivers[name]
		return !here && (all || gone[name])
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	refused := d.reportNode(ctx, n, drivers, left)
	if refused != nil && !apierrors.IsForbidden(refused) && !apierrors.IsInvalid(refused) {
		return refused
	}
	return errors.Join(refused, d.reportCSINode(ctx, n, drivers, left)) // one driver's label that this node may not have keeps no other from it
}

// reportCSINode makes the CSINode, or brings it up to date.
func (d *Drivers) reportCSINode(ctx context.Context, n *corev1.Node, drivers map[string]driver, left func(string) bool) error {
	nodes := d.parts.Kube.StorageV1().CSINodes()
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}
	have, err := nodes.Get(ctx, d.node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		made := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: d.node, OwnerReferences: []metav1.OwnerReference{owner}}}
		made.Spec.Drivers = csiNodeDrivers(nil, drivers, left)
		if _, err := nodes.Create(ctx, made, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating the CSINode: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the CSINode: %w", err)
	}
	want := have.DeepCopy()
	want.OwnerReferences = []metav1.OwnerReference{owner}
	want.Spec.Drivers = csiNodeDrivers(have.Spec.Drivers, drivers, left)
	if equality.Semantic.DeepEqual(have, want) {
		return nil
	}
	_, err = nodes.Update(ctx, want, metav1.UpdateOptions{})
	if apierrors.IsInvalid(err) {
		// What the node is called, and where it is, cannot change: the driver goes and comes.
		without := want.DeepCopy()
		without.Spec.Drivers = slices.DeleteFunc(without.Spec.Drivers, func(a storagev1.CSINodeDriver) bool {
			return !slices.ContainsFunc(have.Spec.Drivers, func(b storagev1.CSINodeDriver) bool { return equality.Semantic.DeepEqual(a, b) })
		})
		if without, err = nodes.Update(ctx, without, metav1.UpdateOptions{}); err == nil {
			want.ResourceVersion = without.ResourceVersion
			_, err = nodes.Update(ctx, want, metav1.UpdateOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("updating the CSINode: %w", err)
	}
	return nil
}

// csiNodeDrivers is the list of a CSINode: what others are told of drivers, with what is there of those that may still come.
func csiNodeDrivers(have []storagev1.CSINodeDriver, drivers map[string]driver, left func(string) bool) []storagev1.CSINodeDriver {
	list := []storagev1.CSINodeDriver{}
	for _, h := range have {
		if _, known := drivers[h.Name]; !known && !left(h.Name) {
			list = append(list, h)
		}
	}
	for name, dr := range drivers {
		entry := storagev1.CSINodeDriver{Name: name, NodeID: dr.info.id, TopologyKeys: slices.Sorted(maps.Keys(dr.info.topology))}
		if dr.info.most > 0 {
			entry.Allocatable = &storagev1.VolumeNodeResources{Count: new(int32(min(dr.info.most, 1<<31-1)))}
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b storagev1.CSINodeDriver) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// reportNode brings the node's annotation and labels up to date. A label that is there with another value is a mistake of whoever runs the
// cluster: it is not overwritten, and the others are told all the same.
func (d *Drivers) reportNode(ctx context.Context, n *corev1.Node, drivers map[string]driver, left func(string) bool) error {
	ids, labels, err := nodeWish(n, drivers, left)
	if err != nil {
		d.log.Warn("labelling the node by a driver's topology", zap.Error(err))
	}
	meta := map[string]any{}
	if len(labels) > 0 {
		meta["labels"] = labels
	}
	if ids != n.Annotations[nodeIDs] {
		meta["annotations"] = map[string]any{nodeIDs: ids}
		if ids == "" {
			meta["annotations"] = map[string]any{nodeIDs: nil}
		}
	}
	if len(meta) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return fmt.Errorf("encoding what the node says of drivers: %w", err)
	}
	if _, err := d.parts.Kube.CoreV1().Nodes().Patch(ctx, d.node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("telling the node of drivers: %w", err)
	}
	return nil
}

// nodeWish is the annotation that a node should have, and the labels that it lacks. Pure.
func nodeWish(n *corev1.Node, drivers map[string]driver, left func(string) bool) (ids string, labels map[string]string, err error) {
	said := map[string]string{}
	if text := n.Annotations[nodeIDs]; text != "" && json.Unmarshal([]byte(text), &said) != nil {
		said = map[string]string{} // somebody has spoilt it
	}
	maps.DeleteFunc(said, func(name, _ string) bool { return left(name) })
	labels = map[string]string{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(drivers)) {
		info := drivers[name].info
		said[name] = info.id
		for key, value := range info.topology {
			have, there := n.Labels[key]
			if !there {
				have, there = labels[key]
			}
			switch {
			case !there:
				labels[key] = value
			case have != value:
				errs = append(errs, fmt.Errorf("detected topology value collision: driver reported %q:%q but existing label is %q:%q", key, value, key, have))
			}
		}
	}
	if len(said) == 0 {
		return "", labels, errors.Join(errs...)
	}
	text, err := json.Marshal(said)
	return string(text), labels, errors.Join(append(errs, err)...)
}
