// Package leader lets one of several equal processes work at a time: the one that holds a Lease.
package leader

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Config says which lease, and who asks for it.
type Config struct {
	Kube      kubernetes.Interface
	Namespace string        // kube-system
	Name      string        // of the Lease: the daemon's name
	Identity  string        // of this process, unique among its equals
	Duration  time.Duration // how long a silent leader is believed; 0: 15 s
}

// Run waits for the lease and calls lead while it is held; lead's context ends when the lease is lost or ctx ends. It returns
// lead's error, or an error when the lease was lost: the process is then expected to start anew, with nothing in memory.
func Run(ctx context.Context, log *zap.Logger, cfg Config, lead func(context.Context) error) error {
	if cfg.Duration == 0 {
		cfg.Duration = 15 * time.Second
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var result error
	led := make(chan struct{})
	lock := &watched{Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: cfg.Namespace, Name: cfg.Name},
		Client:     cfg.Kube.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: cfg.Identity},
	}}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: cfg.Duration, RenewDeadline: cfg.Duration * 2 / 3, RetryPeriod: cfg.Duration / 7,
		ReleaseOnCancel: true,
		Name:            cfg.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer close(led)
				log.Info("leading", zap.String("lease", cfg.Name), zap.String("identity", cfg.Identity))
				result = lead(leading)
				cancel()
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(id string) {
				if id != cfg.Identity {
					log.Info("another leads", zap.String("lease", cfg.Name), zap.String("leader", id))
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing leader election %s: %w", cfg.Name, err)
	}
	asked := ctx
	elector.Run(ctx)
	if lock.held.Load() {
		<-led // lead was called, or is about to be, with a context that has ended
	}
	if result != nil {
		return result
	}
	if asked.Err() == nil {
		return fmt.Errorf("lost the lease %s/%s", cfg.Namespace, cfg.Name)
	}
	return asked.Err()
}

// Keep runs term after term: a lease that was lost, as when the API server was away for long, is asked for again, so the
// process need not start anew. lead must begin each term with nothing of the one before that may have become wrong. Keep
// returns when ctx ends, or with lead's error when lead fails while it holds the lease.
func Keep(ctx context.Context, log *zap.Logger, cfg Config, lead func(context.Context) error) error {
	for {
		var failed error
		err := Run(ctx, log, cfg, func(ctx context.Context) error {
			failed = lead(ctx)
			return failed
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case failed != nil && !errors.Is(failed, context.Canceled):
			return failed
		}
		log.Warn("no longer leading, asking again", zap.String("lease", cfg.Name), zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// watched is a lock that remembers whether it was ever ours: the elector calls back from goroutines of its own, so that its
// return alone does not say whether lead is still to come.
type watched struct {
	resourcelock.Interface
	held atomic.Bool
}

func (w *watched) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return w.note(w.Interface.Create(ctx, r), r)
}

func (w *watched) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return w.note(w.Interface.Update(ctx, r), r)
}

func (w *watched) note(err error, r resourcelock.LeaderElectionRecord) error {
	if err == nil && r.HolderIdentity == w.Identity() {
		w.held.Store(true)
	}
	return err
}
