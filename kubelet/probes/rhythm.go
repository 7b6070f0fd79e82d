package probes

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// container probes one container until ctx ends: startup first, then the others side by side.
func (p *Prober) container(ctx context.Context, uid types.UID, t Target) {
	c := t.Container
	if c.StartupProbe != nil && !t.Started && !t.Ending {
		if !p.one(ctx, uid, t, Startup, c.StartupProbe) {
			return
		}
	}
	var both sync.WaitGroup
	if c.ReadinessProbe != nil {
		both.Go(func() { p.one(ctx, uid, t, Readiness, c.ReadinessProbe) })
	}
	if c.LivenessProbe != nil && !t.Ending {
		both.Go(func() { p.one(ctx, uid, t, Liveness, c.LivenessProbe) })
	}
	both.Wait()
}

// first is how long to wait before the first try.
func (p *Prober) first(t Target, s settings) time.Duration {
	wait := time.Until(t.Since.Add(s.delay))
	if t.Since.Before(p.born) && time.Since(p.born) < s.period {
		wait = max(wait, rand.N(s.period))
	}
	return wait
}

// one runs one probe in its rhythm. It returns true when startup has passed, false when there is nothing more to ask.
func (p *Prober) one(ctx context.Context, uid types.UID, t Target, kind Kind, probe *corev1.Probe) bool {
	s := settingsOf(probe)
	v := verdict{settings: s, healthy: kind == Liveness || kind == Readiness && t.Ready, known: kind == Liveness || kind == Readiness && t.Ready}
	timer := time.NewTimer(p.first(t, s))
	defer timer.Stop()
	defer p.metrics.drop(kind, string(uid), t)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
		began := time.Now()
		err := p.attempt(ctx, probe, s, t)
		if ctx.Err() != nil {
			return false
		}
		r := Result{PodUID: uid, Container: t.Container.Name, ContainerID: t.ContainerID, Kind: kind}
		result := successful
		var odd unknown
		var hint warning
		switch {
		case errors.As(err, &odd):
			r.Outcome, result = Errored, undecidable
		case err == nil || errors.As(err, &hint):
			if err != nil {
				r.Outcome = Warned
			}
			r.Changed = v.count(true)
		default:
			r.Outcome, result = Failed, failed
			r.Changed = v.count(false)
		}
		p.metrics.total.WithLabelValues(string(kind), result, t.Container.Name, t.Pod, t.Namespace, string(uid)).Inc()
		p.metrics.duration.WithLabelValues(string(kind), t.Container.Name, t.Pod, t.Namespace).Observe(time.Since(began).Seconds())
		r.Healthy = v.healthy
		if err != nil {
			r.Complaint = err.Error()
		}
		if r.Changed || r.Complaint != "" {
			select {
			case p.results <- r:
			case <-ctx.Done():
				return false
			}
		}
		switch {
		case kind == Startup && v.known:
			return v.healthy
		case kind == Liveness && !v.healthy:
			return false
		}
		timer.Reset(time.Until(began.Add(s.period)))
	}
}

func (p *Prober) attempt(ctx context.Context, probe *corev1.Probe, s settings, t Target) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, timed{}, s.timeout), s.timeout)
	defer cancel()
	return p.try(ctx, probe, t)
}
