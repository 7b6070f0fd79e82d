package csi

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// keep has volumes published again whose drivers want that, and grown, until ctx ends. Each driver is asked by itself, so that one that hangs
// keeps no other's waiting. Claims and volumes are asked for: a kubelet may not watch them.
func (d *Drivers) keep(ctx context.Context) {
	clock := time.NewTicker(often)
	defer clock.Stop()
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		busy = map[string]bool{} // drivers; guarded by mu
	)
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
		}
		for name, volumes := range d.published() {
			mu.Lock()
			taken := busy[name]
			busy[name] = true
			mu.Unlock()
			if taken {
				continue
			}
			all.Go(func() {
				d.refresh(ctx, name, volumes)
				mu.Lock()
				delete(busy, name)
				mu.Unlock()
			})
		}
	}
}

// published are the targets of volumes that are ready, by driver.
func (d *Drivers) published() map[string][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]string{}
	for target, v := range d.live {
		out[v.Driver] = append(out[v.Driver], target)
	}
	return out
}

// refresh looks after the volumes of one driver.
func (d *Drivers) refresh(ctx context.Context, name string, targets []string) {
	o, err := d.object(ctx, name)
	if err != nil {
		return // ctx has ended
	}
	driver, err := d.driverOf(name)
	if err != nil {
		return // it presents itself again, or pods end without it
	}
	var able capabilities
	if err := driver.call(ctx, func(ctx context.Context, c spec.NodeClient) (err error) {
		able, err = can(ctx, c)
		return err
	}); err != nil {
		d.log.Warn("asking a driver what it can do", zap.String("name", name), zap.Error(err))
		return
	}
	again := o != nil && o.Spec.RequiresRepublish != nil && *o.Spec.RequiresRepublish
	grows := able[spec.NodeServiceCapability_RPC_EXPAND_VOLUME]
	for _, target := range targets {
		if again {
			d.republish(ctx, target)
		}
		if grows {
			d.look(ctx, target)
		}
	}
}

// mine takes the turn of a volume that is still published.
func (d *Drivers) mine(ctx context.Context, target string) (v Volume, done func(), ok bool) {
	find := func() (Volume, bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		v, there := d.live[target]
		return v, there
	}
	v, ok = find()
	if !ok {
		return v, nil, false
	}
	done, err := d.turns.take(ctx, v.key())
	if err != nil {
		return v, nil, false
	}
	if v, ok = find(); !ok {
		done()
	}
	return v, done, ok
}

// republish has the driver renew what a volume holds, such as tokens. What is there stays when that fails.
func (d *Drivers) republish(ctx context.Context, target string) {
	v, done, ok := d.mine(ctx, target)
	if !ok {
		return
	}
	defer done()
	p := &publication{Drivers: d, Volume: v, use: user{v.Pod.UID, v.Name}, target: target}
	if err := p.again(ctx); err != nil && ctx.Err() == nil {
		d.parts.Events.Eventf(v.Pod, corev1.EventTypeWarning, "FailedMount", "%s", p.failed("MountVolume.SetUp", err))
	}
}

// again publishes a volume that is published.
func (p *publication) again(ctx context.Context) error {
	have, err := read(p.disk.useDir(p.use))
	if err != nil || have == nil {
		return err
	}
	p.rec = *have
	if p.object, err = p.Drivers.object(ctx, p.Driver); err != nil {
		return err
	}
	if p.driver, err = p.driverOf(p.Driver); err != nil {
		return err
	}
	if p.rec.Attachment != "" {
		va, err := p.parts.Kube.StorageV1().VolumeAttachments().Get(ctx, p.rec.Attachment, metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.attachment = va.Status.AttachmentMetadata
	}
	return p.driver.call(ctx, func(ctx context.Context, c spec.NodeClient) error {
		p.client = c
		if p.can, err = can(ctx, c); err != nil {
			return err
		}
		p.wants = p.capability(p.can)
		if !p.inline() && p.can[spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME] {
			p.staging = p.disk.stagePath(p.rec)
		}
		return p.publishTo(ctx)
	})
}

// outgrown says whether the volume is larger than its claim says, and the driver has a part in that on nodes.
func (p *publication) outgrown() bool {
	return !p.inline() && p.can[spec.NodeServiceCapability_RPC_EXPAND_VOLUME] && p.PV.Spec.Capacity.Storage().Cmp(*p.Claim.Status.Capacity.Storage()) > 0 && !p.ReadOnly
}

// look reads the claim anew, and has the volume grown if that is larger than its claim says. A volume whose claim does not grow is not asked for.
func (d *Drivers) look(ctx context.Context, target string) {
	v, done, ok := d.mine(ctx, target)
	if !ok || v.inline() || v.ReadOnly {
		if ok {
			done()
		}
		return
	}
	defer done()
	claim, err := d.parts.Kube.CoreV1().PersistentVolumeClaims(v.Claim.Namespace).Get(ctx, v.Claim.Name, metav1.GetOptions{})
	if err != nil || claim.UID != v.Claim.UID || !grows(claim) {
		return // the API is away, or the claim is gone: asked again soon
	}
	pv, err := d.parts.Kube.CoreV1().PersistentVolumes().Get(ctx, v.Name, metav1.GetOptions{})
	if err != nil || pv.Spec.CSI == nil || pv.UID != v.PV.UID {
		return
	}
	v.Claim, v.PV = claim, pv
	d.mu.Lock()
	d.live[target] = v
	d.mu.Unlock()
	if pv.Spec.Capacity.Storage().Cmp(*claim.Status.Capacity.Storage()) <= 0 {
		return
	}
	if claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage] == corev1.PersistentVolumeClaimNodeResizeInfeasible {
		return // until somebody wants another size
	}
	if err := d.grow(ctx, v, target); err != nil && ctx.Err() == nil {
		d.log.Warn("growing a volume", zap.String("name", v.Name), zap.Error(err))
	}
}

// grows says whether a claim is on its way to another size: somebody wants more than it has, or its volume was made larger already
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims).
func grows(c *corev1.PersistentVolumeClaim) bool {
	return c.Spec.Resources.Requests.Storage().Cmp(*c.Status.Capacity.Storage()) > 0 || c.Status.AllocatedResourceStatuses[corev1.ResourceStorage] != "" ||
		slices.ContainsFunc(c.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
			return c.Type == corev1.PersistentVolumeClaimFileSystemResizePending && c.Status == corev1.ConditionTrue
		})
}

// grow has the driver take in the volume's new size, and tells the claim so: before, after, and why not
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#recovering-from-failure-when-expanding-volumes). That it never can is told to
// the user and is no error: the pod has what it had.
func (d *Drivers) grow(ctx context.Context, v Volume, target string) error {
	size := *v.PV.Spec.Capacity.Storage()
	err := d.tellClaim(ctx, v.Claim, func(s *corev1.PersistentVolumeClaimStatus) {
		setResize(s, corev1.PersistentVolumeClaimNodeResizeInProgress, "")
	})
	if err != nil {
		return err
	}
	secrets, err := d.secrets(ctx, "NodeExpandSecretRef", v.expand)
	if err != nil {
		return err
	}
	driver, err := d.driverOf(v.Driver)
	if err != nil {
		return err
	}
	err = driver.call(ctx, func(ctx context.Context, c spec.NodeClient) error {
		able, err := can(ctx, c)
		if err != nil {
			return err
		}
		ask := &spec.NodeExpandVolumeRequest{VolumeId: v.Handle, VolumePath: target, CapacityRange: &spec.CapacityRange{RequiredBytes: size.Value()},
			VolumeCapability: v.capability(able), Secrets: secrets}
		if able[spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME] {
			ask.StagingTargetPath = d.disk.stagePath(record{SpecVolID: v.Name, Driver: v.Driver, Handle: v.Handle, Block: v.Block})
		}
		_, err = c.NodeExpandVolume(ctx, ask)
		return err
	})
	if err == nil {
		if err := d.tellClaim(ctx, v.Claim, func(s *corev1.PersistentVolumeClaimStatus) { resized(s, size) }); err != nil {
			return err
		}
		for _, o := range []metav1.Object{v.Pod, v.Claim} {
			d.event(o, corev1.EventTypeNormal, "FileSystemResizeSuccessful", fmt.Sprintf("MountVolume.NodeExpandVolume succeeded for volume %q %s", v.Name, d.node))
		}
		return nil
	}
	failure := &Failure{"NodeExpandVolume.NodeExpandVolume", v.Name, err}
	d.event(v.Pod, corev1.EventTypeWarning, "VolumeResizeFailed", failure.Error())
	never := infeasible(err)
	as := corev1.PersistentVolumeClaimNodeResizeInProgress
	if never {
		as = corev1.PersistentVolumeClaimNodeResizeInfeasible
	}
	if told := d.tellClaim(ctx, v.Claim, func(s *corev1.PersistentVolumeClaimStatus) { setResize(s, as, err.Error()) }); told != nil {
		return told
	}
	if never {
		return nil
	}
	return failure
}

func (d *Drivers) event(o metav1.Object, kind, reason, text string) {
	switch o := o.(type) {
	case *corev1.Pod:
		d.parts.Events.Eventf(o, kind, reason, "%s", text)
	case *corev1.PersistentVolumeClaim:
		d.parts.Events.Eventf(o, kind, reason, "%s", text)
	}
}

// infeasible says whether a driver will never do what it was asked for.
func infeasible(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound:
		return true
	}
	return false
}

// tellClaim writes a claim's status, if change changes it.
func (d *Drivers) tellClaim(ctx context.Context, c *corev1.PersistentVolumeClaim, change func(*corev1.PersistentVolumeClaimStatus)) error {
	claims := d.parts.Kube.CoreV1().PersistentVolumeClaims(c.Namespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := claims.Get(ctx, c.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		want := now.DeepCopy()
		if change(&want.Status); equality.Semantic.DeepEqual(now.Status, want.Status) {
			return nil
		}
		_, err = claims.UpdateStatus(ctx, want, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("telling claim %s/%s of its new size: %w", c.Namespace, c.Name, err)
	}
	return nil
}

// setResize says how far the node is with a new size; text is what went wrong.
func setResize(s *corev1.PersistentVolumeClaimStatus, as corev1.ClaimResourceStatus, text string) {
	if s.AllocatedResourceStatuses == nil {
		s.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{}
	}
	s.AllocatedResourceStatuses[corev1.ResourceStorage] = as
	i := slices.IndexFunc(s.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		return c.Type == corev1.PersistentVolumeClaimNodeResizeError
	})
	switch {
	case text == "":
	case i < 0:
		s.Conditions = append(s.Conditions, corev1.PersistentVolumeClaimCondition{
			Type: corev1.PersistentVolumeClaimNodeResizeError, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(), Message: text})
	default:
		s.Conditions[i].Message = text
	}
}

// resized ends a resize.
func resized(s *corev1.PersistentVolumeClaimStatus, size resource.Quantity) {
	if s.Capacity == nil {
		s.Capacity = corev1.ResourceList{}
	}
	s.Capacity[corev1.ResourceStorage] = size
	delete(s.AllocatedResourceStatuses, corev1.ResourceStorage)
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		switch c.Type {
		case corev1.PersistentVolumeClaimResizing, corev1.PersistentVolumeClaimFileSystemResizePending, corev1.PersistentVolumeClaimNodeResizeError,
			corev1.PersistentVolumeClaimControllerResizeError:
			return true
		}
		return false
	})
}
