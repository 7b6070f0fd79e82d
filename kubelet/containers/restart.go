package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/snapshots"
	"go.uber.org/zap"
)

// rejoin reads again what running containers print. One whose process ended meanwhile is left to Run's first look.
func (r *Runtime) rejoin(ctx context.Context) error {
	records, err := r.client.ContainerService().List(ctx, filterKind(kindContainer))
	if err != nil {
		return fmt.Errorf("listing records: %w", err)
	}
	processes, err := r.tasks(ctx)
	if err != nil {
		return err
	}
	for _, rec := range records {
		c := containerFrom(rec.ID, rec.Labels, rec.CreatedAt)
		p := processes[rec.ID]
		if p == nil {
			continue
		}
		if p.Status == task.Status_CREATED {
			// The kubelet ended between making and starting it; it never ran.
			if err := r.startFailed(ctx, c.ID, errors.New("the kubelet was restarted while the container started")); err != nil {
				// It stays Created, to be removed; that is not worth the node either.
				r.log.Error("taking back a start", zap.String("container", c.ID), zap.Error(err))
			}
			continue
		}
		if c.Started.IsZero() && p.Status == task.Status_RUNNING {
			if err := r.setLabels(ctx, c.ID, map[string]string{labelStarted: now().Format(time.RFC3339Nano)}); err != nil {
				return err
			}
		}
		if err := r.rejoinOne(c); err != nil {
			// One container's output is not worth the node: it goes on, unread.
			r.log.Error("joining container output", zap.String("container", c.ID), zap.Error(err))
		}
	}
	return nil
}

func (r *Runtime) rejoinOne(c Container) error {
	streams, err := openStdio(r.stdioDir(c.ID), c.TTY, c.Stdin, r.log)
	if err != nil {
		return err
	}
	sink, err := r.openSink(c.LogPath)
	if err != nil {
		streams.close()
		return err
	}
	streams.start(sink)
	r.setStreams(c.ID, streams)
	return nil
}

// sweep removes pins, streams and snapshots that no record speaks of: left by a kubelet that was killed halfway. What cannot be removed stays until the
// next start: it does nobody harm, and a kubelet that did not start would.
func (r *Runtime) sweep(ctx context.Context) error {
	records, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q", labelKind))
	if err != nil {
		return fmt.Errorf("listing records: %w", err)
	}
	known := make(map[string]bool, len(records))
	for _, rec := range records {
		known[rec.ID] = true
	}
	if err := errors.Join(
		r.sweepPauses(ctx, records),
		eachUnknown(r.sandboxesDir(), known, removePins),
		eachUnknown(r.mapDir(), nil, unmap), // nothing is being started yet, so none is in use
		eachUnknown(r.ioDir(), known, os.RemoveAll),
	); err != nil {
		r.log.Error("removing leftovers", zap.Error(err))
	}
	snapshotter := r.client.SnapshotService(r.cfg.Snapshotter)
	var orphans []string
	err = snapshotter.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if !known[info.Name] {
			orphans = append(orphans, info.Name)
		}
		return nil
	}, fmt.Sprintf("labels.%q==%s", labelKind, kindContainer))
	if err != nil {
		return fmt.Errorf("listing snapshots: %w", err)
	}
	for _, key := range orphans {
		if err := snapshotter.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			r.log.Error("removing a leftover snapshot", zap.String("snapshot", key), zap.Error(err))
		}
	}
	return nil
}

// eachUnknown removes what is not known, as much of it as it can.
func eachUnknown(dir string, known map[string]bool, remove func(string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading state folder: %w", err)
	}
	var failed []error
	for _, e := range entries {
		if !known[e.Name()] {
			failed = append(failed, remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(failed...)
}
