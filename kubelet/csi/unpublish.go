package csi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
)

// Unpublish takes all volumes of drivers from a pod, whose containers are gone and whose mounts within them, too. What is gone is no error.
func (d *Drivers) Unpublish(ctx context.Context, pod types.UID) error {
	uses, err := d.disk.uses(pod)
	if err != nil {
		return err
	}
	results := make(chan error, len(uses))
	for u := range uses {
		go func() { results <- d.unpublish(ctx, u, uses[u]) }()
	}
	var errs []error
	for range uses {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

func (d *Drivers) unpublish(ctx context.Context, u user, r record) error {
	done, err := d.turns.take(ctx, r.key())
	if err != nil {
		return err
	}
	defer done()
	target := d.disk.target(u, r.Block)
	d.mu.Lock()
	delete(d.live, target)
	d.mu.Unlock()
	fail := func(err error) error { return &Failure{"UnmountVolume.TearDown", u.name, err} }
	if r.Stage != noted && r.Driver != "" {
		driver, err := d.driverOf(r.Driver)
		if err != nil {
			return fail(fmt.Errorf("kubernetes.io/csi: Unmounter.TearDownAt failed to get CSI client: %w", err))
		}
		err = driver.call(ctx, func(ctx context.Context, c spec.NodeClient) error {
			_, err := c.NodeUnpublishVolume(ctx, &spec.NodeUnpublishVolumeRequest{VolumeId: r.Handle, TargetPath: target})
			return err
		})
		if err != nil {
			return fail(err)
		}
	}
	if mounted, err := isMounted(target); err == nil && mounted && r.Driver == "" {
		return nil // somebody took the record away: the pod's folders are unmounted and removed as all others
	}
	if err := forget(d.disk.useDir(u), target); err != nil {
		return fail(err)
	}
	d.counts(r.Attachment)
	poke(d.idle)
	return nil
}

// tidy unstages what no pod has any more, also what a former life of the kubelet has left, until ctx ends. Each volume is tried by itself, so
// that a driver that hangs keeps no other's waiting.
func (d *Drivers) tidy(ctx context.Context) {
	type outcome struct {
		key string
		err error
	}
	var (
		busy    = map[string]bool{}
		wait    = map[string]time.Duration{} // of those that failed
		next    = map[string]time.Time{}
		results = make(chan outcome)
		clock   = time.NewTimer(0)
	)
	defer func() {
		for range busy {
			<-results
		}
		clock.Stop()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.idle:
		case <-clock.C:
		case r := <-results:
			delete(busy, r.key)
			if r.err == nil {
				delete(wait, r.key)
				delete(next, r.key)
				break
			}
			if ctx.Err() != nil {
				return
			}
			wait[r.key] = min(max(2*wait[r.key], 500*time.Millisecond), 2*time.Minute)
			next[r.key] = time.Now().Add(wait[r.key])
			d.log.Warn("unstaging a volume", zap.String("volume", r.key), zap.Error(r.err))
		}
		if d.arrived.Swap(false) {
			clear(next)
			clear(wait)
		}
		staged, err := d.disk.staged()
		if err != nil {
			d.log.Warn("looking for volumes to unstage", zap.Error(err))
			clock.Reset(often)
			continue
		}
		used, err := d.disk.used()
		if err != nil {
			d.log.Warn("looking for volumes in use", zap.Error(err))
			clock.Reset(often)
			continue
		}
		var soonest time.Time
		for _, r := range staged {
			key := r.key()
			if busy[key] {
				continue
			}
			if at := next[key]; time.Now().Before(at) {
				if soonest.IsZero() || at.Before(soonest) {
					soonest = at
				}
				continue
			}
			if used[key] {
				continue
			}
			busy[key] = true
			go func() { results <- outcome{key, d.unstage(ctx, r)} }()
		}
		if !soonest.IsZero() {
			clock.Reset(time.Until(soonest))
		}
	}
}

// unstage takes a volume from the node, unless a pod has it by now.
func (d *Drivers) unstage(ctx context.Context, r record) error {
	done, err := d.turns.take(ctx, r.key())
	if err != nil {
		return err
	}
	defer done()
	dir := d.disk.stageDir(r.Driver, r.Handle)
	used, err := d.disk.used()
	if err != nil || used[r.key()] {
		return err
	}
	if now, err := read(dir); err != nil || now == nil {
		return err // done meanwhile
	}
	fail := func(err error) error { return &Failure{"UnmountDevice", r.SpecVolID, err} }
	driver, err := d.driverOf(r.Driver)
	if err != nil {
		return fail(fmt.Errorf("kubernetes.io/csi: attacher.UnmountDevice failed to create newCsiDriverClient: %w", err))
	}
	if err := os.Remove(filepath.Join(dir, stagedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(fmt.Errorf("noting that a volume is not staged: %w", err))
	}
	at := d.disk.stagePath(r)
	err = driver.call(ctx, func(ctx context.Context, c spec.NodeClient) error {
		_, err := c.NodeUnstageVolume(ctx, &spec.NodeUnstageVolumeRequest{VolumeId: r.Handle, StagingTargetPath: at})
		return err
	})
	if err != nil {
		return fail(err)
	}
	if err := forget(dir, at); err != nil {
		return fail(err)
	}
	if r.Block {
		_ = os.Remove(filepath.Join(d.disk.plugins(), devices, "publish", r.SpecVolID)) // empty, or another pod's
	}
	d.counts(r.Attachment)
	return nil
}
