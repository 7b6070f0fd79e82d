package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

const (
	atOnce = 32                     // writes to pods side by side
	pace   = 200 * time.Millisecond // the mere numbers of pods that run are told no more often
	margin = time.Minute            // that clocks may differ
)

// world is what a pass writes to, and asks when the caches are not enough.
type world interface {
	create(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error)
	remove(ctx context.Context, p *corev1.Pod) error
	guard(ctx context.Context, p *corev1.Pod, on bool) error
	commit(ctx context.Context, have, want *batchv1.Job) (*batchv1.Job, error)
	live(ctx context.Context, j *batchv1.Job) (*batchv1.Job, *corev1.PodList, error)
}

// pass brings a job nearer to its end: pods, then the status with those that have ended entered, then their finalizers, then
// the status with them counted. pods are the job's in a cache that has reached version.
func (c *controller) pass(ctx context.Context, j *batchv1.Job, pods []*corev1.Pod, version string, now time.Time) (again time.Duration, err error) {
	key := loop.KeyOf(j)
	pg, fresh := c.memory.page(key, j.UID)
	if !loop.Reached(j.ResourceVersion, pg.version) && pg.version != "" {
		return 0, nil // what we wrote, or read, is on its way to the cache, and wakes us
	}
	if fresh {
		c.ledger.Forget(key)
		if none := (batchv1.JobStatus{}); sameCounts(&j.Status, &none) && j.CreationTimestamp.After(c.began.Add(margin)) {
			pg.met = &j.Status // nobody was here before us
		}
	}
	if !pg.knows(&j.Status) {
		if ok, err := c.meet(ctx, j, pg); err != nil || !ok {
			return 0, err
		}
	}
	pods, all := pg.visible(pods, version)
	if !all {
		return 0, nil // those pods' events wake us
	}
	v := &view{job: j, pods: pods, unseen: c.ledger.Unseen(key, pods, version), row: &pg.row, now: now}
	if v.unseen.Deleting == nil {
		v.unseen.Deleting = map[types.UID]bool{}
	}
	pg.see(pods)
	v.stripped = pg.stripped
	if !perIndex(j) {
		pg.row.look(pods, v.failed)
	}
	s := look(v)
	p := decide(v, s)
	defer func() { c.metrics.passed(j, p.action, time.Since(now), err) }()

	n, acted := c.act(ctx, key, pg, v, s, p)
	st := nextStatus(v, s, p, n)
	if p.settled {
		settle(j, st, left(v, s))
	}
	strip, rulings := enter(v, s, p.ending, st)
	if wait := pg.wrote.Add(pace).Sub(now); wait > 0 && len(strip) == 0 && onlyNumbers(&j.Status, st) && p.ending == nil {
		if j.Status.Active == st.Active && ptr.Equal(st.Ready, j.Status.Ready) && ptr.Equal(st.Terminating, j.Status.Terminating) {
			wait = 0
		}
		return sooner(p.again, wait), acted
	}
	if j, err = c.write(ctx, pg, j, st, now); err != nil {
		return 0, errors.Join(acted, err)
	}
	c.tell(v, j)
	for action, n := range rulings {
		c.metrics.byPolicy.WithLabelValues(string(action)).Add(float64(n))
	}
	stripped := c.strip(ctx, pg, strip)
	st = j.Status.DeepCopy()
	if p.settled {
		settle(j, st, left(v, s))
	}
	over := ended(v, s, p, st)
	if over {
		finish(st, *p.ending, now)
	}
	if j, err = c.write(ctx, pg, j, st, now); err != nil {
		return 0, errors.Join(acted, stripped, err)
	}
	if over {
		c.over(j, *p.ending)
	}
	return p.again, errors.Join(acted, stripped)
}

// left are the pods that still have the finalizer.
func left(v *view, s *survey) map[types.UID]bool {
	all := make(map[types.UID]bool, len(s.guarded))
	for _, p := range s.guarded {
		if v.guarded(p) {
			all[p.UID] = true
		}
	}
	return all
}

// meet asks the API server what a job and its pods are like, when somebody before us may have written what the caches do not
// show yet, and notes what they must show before anything is done. It returns false while the cache has another state of the job.
func (c *controller) meet(ctx context.Context, j *batchv1.Job, pg *page) (bool, error) {
	now, list, err := c.world.live(ctx, j)
	if apierrors.IsNotFound(err) {
		return false, nil // the cache will show it, and wake us
	}
	if err != nil {
		return false, err
	}
	if now.UID != j.UID || now.ResourceVersion != j.ResourceVersion {
		if loop.Reached(j.ResourceVersion, now.ResourceVersion) {
			return false, loop.ErrStale // the server that we asked is behind our cache
		}
		pg.version = now.ResourceVersion
		return false, nil
	}
	pg.note(list)
	pg.met = j.Status.DeepCopy()
	return true, nil
}

// act deletes or creates pods, and returns the numbers after that.
func (c *controller) act(ctx context.Context, key loop.Key, pg *page, v *view, s *survey, p plan) (numbers, error) {
	n := numbers{active: len(s.active) + v.unseen.Creating, ready: s.ready, terminating: s.terminating}
	var mu sync.Mutex // guards n and v.unseen.Deleting here
	err := c.heal(ctx, v, s, p)
	if len(p.remove) > 0 {
		err = errors.Join(err, c.side(len(p.remove), func(i int) error {
			o := p.remove[i]
			if err := c.remove(ctx, key, v.job, o, p.dismiss); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			v.unseen.Deleting[o.UID] = true
			if p.dismiss {
				pg.stripped[o.UID] = true
			}
			n.active--
			n.terminating++
			if pod.Ready(o) {
				n.ready--
			}
			return nil
		}))
	}
	if len(p.create) > 0 {
		made, e := c.create(ctx, key, pg, v.job, p.create)
		n.active += made
		c.metrics.made(v, s, made, len(p.create)-made)
		err = errors.Join(err, e)
	}
	return n, err
}

// heal gives the finalizer to active pods that lack it: of those we were about to give up when we ended.
func (c *controller) heal(ctx context.Context, v *view, s *survey, p plan) error {
	if v.job.DeletionTimestamp != nil || p.ending != nil {
		return nil
	}
	var errs []error
	for _, o := range s.active {
		if guarded(o) || !fits(v.job, o) || slices.Contains(p.remove, o) {
			continue
		}
		if err := c.world.guard(ctx, o, true); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("guarding pod %s: %w", o.Name, err))
		}
	}
	return errors.Join(errs...)
}

// remove deletes a pod. One that is dismissed loses the finalizer first: it is given up, and not counted as failed.
func (c *controller) remove(ctx context.Context, key loop.Key, j *batchv1.Job, p *corev1.Pod, dismiss bool) error {
	c.ledger.Deleting(key, p.UID)
	err := error(nil)
	if dismiss && guarded(p) {
		err = c.world.guard(ctx, p, false)
	}
	if err == nil {
		err = c.world.remove(ctx, p)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		c.ledger.Kept(key, p.UID)
		c.recorder.Eventf(j, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("deleting pod %s: %w", p.Name, err)
	}
	c.recorder.Eventf(j, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", p.Name)
	return nil
}

func (c *controller) create(ctx context.Context, key loop.Key, pg *page, j *batchv1.Job, slots []slot) (made int, err error) {
	made, err = c.many(ctx, len(slots), func(ctx context.Context, i int) error {
		p, err := c.world.create(ctx, newPod(j, slots[i]))
		if err != nil {
			if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				c.recorder.Eventf(j, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
			}
			return fmt.Errorf("creating a pod: %w", err)
		}
		c.ledger.Created(key, p)
		c.recorder.Eventf(j, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", p.Name)
		return nil
	})
	if err != nil && unanswered(err) {
		pg.met = nil // it may have been made all the same
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		err = nil // nothing can be made there any more, and soon neither are we
	}
	return made, err
}

// unanswered says whether an error leaves open what became of the request.
func unanswered(err error) bool {
	var answer apierrors.APIStatus
	return !errors.As(err, &answer) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsInternalError(err)
}

// strip takes finalizers away.
func (c *controller) strip(ctx context.Context, pg *page, pods []*corev1.Pod) error {
	var mu sync.Mutex // guards pg.stripped here
	return c.side(len(pods), func(i int) error {
		p := pods[i]
		if err := c.world.guard(ctx, p, false); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("taking the finalizer from pod %s: %w", p.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		pg.stripped[p.UID] = true
		return nil
	})
}

// side calls fn for 0 ≤ i < n, some at a time, and returns the first error.
func side(n int, fn func(i int) error) error {
	var first error
	for from := 0; from < n; from += atOnce {
		if _, err := podset.Together(min(atOnce, n-from), func(i int) error { return fn(from + i) }); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// write commits a status, if it says anything new.
func (c *controller) write(ctx context.Context, pg *page, j *batchv1.Job, st *batchv1.JobStatus, now time.Time) (*batchv1.Job, error) {
	want := j.DeepCopy()
	want.Status = *st
	got, err := c.world.commit(ctx, j, want)
	if err != nil {
		return j, err
	}
	if got != j {
		pg.version = got.ResourceVersion
		c.metrics.wrote(j, &j.Status, &got.Status)
		if pg.met != nil {
			pg.met = &got.Status
		}
		pg.wrote = now
	}
	return got, nil
}

// tell reports what a write has just made true of a job that goes on.
func (c *controller) tell(v *view, is *batchv1.Job) {
	was, now := holds(&v.job.Status, batchv1.JobSuspended), holds(&is.Status, batchv1.JobSuspended)
	switch {
	case now && !was:
		c.recorder.Event(is, corev1.EventTypeNormal, "Suspended", "Job suspended")
	case was && !now:
		c.recorder.Event(is, corev1.EventTypeNormal, "Resumed", "Job resumed")
	}
}

// over reports that a job has finished.
func (c *controller) over(j *batchv1.Job, x verdict) {
	c.metrics.ended(j, x)
	if !x.success {
		c.recorder.Event(j, corev1.EventTypeWarning, x.reason, x.message)
		return
	}
	if j.Spec.Completions != nil && j.Status.Succeeded > *j.Spec.Completions {
		c.recorder.Event(j, corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	c.recorder.Event(j, corev1.EventTypeNormal, "Completed", "Job completed")
}
