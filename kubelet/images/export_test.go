package images

import (
	"context"
	"time"

	"github.com/containerd/containerd/images"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/snapshots"
)

// Later has the store believe that it is so much later.
func (s *Store) Later(d time.Duration) {
	was := s.now
	s.now = func() time.Time { return was().Add(d) }
}

// Brought waits until a part of some content lies here.
func (s *Store) Brought(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		all, err := s.daemon.Client().ContentStore().ListStatuses(ctx)
		if err != nil {
			return err
		}
		for _, st := range all {
			if st.Offset > 0 {
				return nil
			}
		}
	}
}

// Leases counts what pulls have left behind.
func (s *Store) Leases(ctx context.Context) (int, error) {
	have, err := s.daemon.Client().LeasesService().List(ctx)
	return len(have), err
}

// Pin gives an image the label that pins it.
func (s *Store) Pin(ctx context.Context, name string) error {
	_, err := s.daemon.Client().ImageService().Update(ctx, images.Image{Name: name, Labels: map[string]string{labelPinned: "pinned"}}, "labels."+labelPinned)
	return err
}

// Turn looks once, with a disk of that size.
func (c *Collector) Turn(ctx context.Context, capacity, available uint64) error {
	c.disk = func(string) (uint64, uint64, error) { return capacity, available, nil }
	return c.turn(ctx)
}

// Daemon is what the store was made with.
func (s *Store) Daemon() Daemon { return s.daemon }

// Forget takes the note away who may have an image.
func (s *Store) Forget(ctx context.Context, name string) error {
	_, err := s.daemon.Client().ImageService().Update(ctx, images.Image{Name: name, Labels: map[string]string{}}, "labels."+labelAccess)
	return err
}

// Unpin takes the label away.
func (s *Store) Unpin(ctx context.Context, name string) error {
	_, err := s.daemon.Client().ImageService().Update(ctx, images.Image{Name: name, Labels: map[string]string{}}, "labels."+labelPinned)
	return err
}

// Unmount takes a mount away, as the room of volumes does.
func (s *Store) Unmount(dir string) error { return mount.UnmountAll(dir, 0) }

// Views counts what image volumes hold.
func (s *Store) Views(ctx context.Context) (int, error) {
	n := 0
	err := s.daemon.Client().SnapshotService(s.cfg.Snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindView {
			n++
		}
		return nil
	})
	return n, err
}
