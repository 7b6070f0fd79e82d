package images

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/leases"
)

// What a pull has brought is kept by a lease, so that the next try goes on where this one ended; it expires by itself.
const (
	leasePrefix = "pilothouse-pull-"
	leaseLife   = 24 * time.Hour
	leaseFresh  = time.Hour // what a lease must still have before it to be used again
)

func leaseID(key string) string {
	return leasePrefix + fmt.Sprintf("%x", sha256.Sum256([]byte(key)))[:32]
}

// lease puts the lease of a pull into the context; done ends it when the image is recorded.
func (s *Store) lease(ctx context.Context, key string) (_ context.Context, done func(context.Context) error, _ error) {
	service, id := s.daemon.Client().LeasesService(), leaseID(key)
	l, err := service.Create(ctx, leases.WithID(id), leases.WithExpiration(leaseLife))
	if errdefs.IsAlreadyExists(err) {
		l.ID, err = id, nil
		have, lerr := service.List(ctx, "id=="+id)
		if lerr != nil {
			return ctx, nil, fmt.Errorf("looking for the lease of a pull: %w", lerr)
		}
		if len(have) == 0 || time.Since(have[0].CreatedAt) > leaseLife-leaseFresh {
			if derr := service.Delete(ctx, l); derr != nil && !errdefs.IsNotFound(derr) {
				return ctx, nil, fmt.Errorf("removing the old lease of a pull: %w", derr)
			}
			l, err = service.Create(ctx, leases.WithID(id), leases.WithExpiration(leaseLife))
		}
	}
	if err != nil {
		return ctx, nil, fmt.Errorf("taking a lease for a pull: %w", err)
	}
	return leases.WithLease(ctx, l.ID), func(ctx context.Context) error {
		if err := service.Delete(ctx, l); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("giving back the lease of a pull: %w", err)
		}
		return nil
	}, nil
}

// dropLeases gives up what pulls have left behind that are not under way and began that long ago.
func (s *Store) dropLeases(ctx context.Context, old time.Duration) error {
	service := s.daemon.Client().LeasesService()
	have, err := service.List(ctx, fmt.Sprintf("id~=^%s", leasePrefix))
	if err != nil {
		return fmt.Errorf("listing the leases of pulls: %w", err)
	}
	s.mu.Lock()
	busy := map[string]bool{}
	for key := range s.flights {
		busy[leaseID(key)] = true
	}
	s.mu.Unlock()
	for i, l := range have {
		if busy[l.ID] || time.Since(l.CreatedAt) < old {
			continue
		}
		var opts []leases.DeleteOpt
		if i == len(have)-1 {
			opts = append(opts, leases.SynchronousDelete)
		}
		if err := service.Delete(ctx, l, opts...); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing the lease of a pull: %w", err)
		}
	}
	return nil
}
