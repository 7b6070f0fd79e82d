package daemonset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"pilothouse.dev/pkg/pod"
)

// nextStatus counts nodes by what the cache shows; where a node has several pods, the oldest speaks for it. It returns after how
// long another pod becomes available by mere waiting.
func nextStatus(s scene) (appsv1.DaemonSetStatus, time.Duration) {
	now := *s.ds.Status.DeepCopy()
	now.ObservedGeneration = s.ds.Generation
	now.DesiredNumberScheduled, now.CurrentNumberScheduled, now.NumberMisscheduled = 0, 0, 0
	now.NumberReady, now.NumberAvailable, now.UpdatedNumberScheduled = 0, 0, 0
	var again time.Duration
	for _, pl := range s.places {
		for _, p := range pl.pods {
			if _, wait := pod.Available(p, s.ds.Spec.MinReadySeconds, s.now); wait > 0 {
				again = sooner(again, wait)
			}
		}
		if !pl.run {
			if len(pl.pods) > 0 {
				now.NumberMisscheduled++
			}
			continue
		}
		now.DesiredNumberScheduled++
		if len(pl.pods) == 0 {
			continue
		}
		now.CurrentNumberScheduled++
		first := pl.pods[0]
		if s.updated(first) {
			now.UpdatedNumberScheduled++
		}
		if pod.Ready(first) {
			now.NumberReady++
		}
		if s.available(first) {
			now.NumberAvailable++
		}
	}
	now.NumberUnavailable = now.DesiredNumberScheduled - now.NumberAvailable
	return now, again
}
