// Package cronjob makes a Job at each of a CronJob's times and forgets old ones. It is called by the loop; it reads CronJobs and
// Jobs from caches and writes Jobs and the CronJob's status, never its spec, and never a Job that it does not own.
//
// What always holds: a time has one Job at most, because the Job is named by it; however long nobody looked, the last time that is
// not too late is run, found in a bounded number of steps; a clock that is put back runs nothing twice. decide (reconcile.go) and
// the calendar (times.go) are pure.
package cronjob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

var kind = batchv1.SchemeGroupVersion.WithKind("CronJob")

// byCronJob is an index over jobs.
const byCronJob = "cronjob"

type controller struct {
	t         loop.Tools
	crons     batchlisters.CronJobLister
	cronStore cache.Store
	jobs      cache.Indexer
	wrote     *loop.Versions // of CronJobs
	made      *loop.Versions // of Jobs, by CronJob
	skew      prometheus.Observer
	told      *loop.Told[note]
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	batch := t.Informers.Batch().V1()
	jobs := batch.Jobs().Informer()
	if err := jobs.AddIndexers(cache.Indexers{byCronJob: owner}); err != nil {
		panic("indexing jobs: " + err.Error()) // the table is broken: this is called once, before informers run
	}
	c := &controller{
		t: t, wrote: loop.NewVersions(), made: loop.NewVersions(), told: loop.NewTold[note](),
		crons: batch.CronJobs().Lister(), cronStore: batch.CronJobs().Informer().GetStore(), jobs: jobs.GetIndexer(),
		skew: t.Metrics.Histogram("cronjob_controller_job_creation_skew_duration_seconds",
			"Seconds between the time a job is made for and its creation.", prometheus.ExponentialBuckets(1, 2, 10)).WithLabelValues(),
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "cronjobs.batch", Wakes: loop.Self},
			{Resource: "jobs.batch", Wakes: loop.Owner("CronJob")},
		},
		Reconcile: c.reconcile,
	}
}

// owner is the UID of the CronJob that controls a job: jobs are a CronJob's by nothing else.
func owner(obj any) ([]string, error) {
	if ref := metav1.GetControllerOfNoCopy(obj.(*batchv1.Job)); ref != nil && ref.Kind == kind.Kind {
		return []string{string(ref.UID)}, nil
	}
	return nil, nil
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	cron, err := c.crons.CronJobs(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.tell(nil, key, nil)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !c.wrote.Seen(key, c.cronStore.LastStoreSyncResourceVersion()) || !c.made.Seen(key, c.jobs.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	s, err := c.look(ctx, cron)
	if err != nil {
		return 0, err
	}
	p := decide(s)
	c.tell(cron, key, p.notes)
	return p.again, c.apply(ctx, cron, p)
}

// look gathers what there is. An active job that the cache does not show may only have been made a moment ago: it is asked for.
func (c *controller) look(ctx context.Context, cron *batchv1.CronJob) (state, error) {
	objs, err := c.jobs.ByIndex(byCronJob, string(cron.UID))
	if err != nil {
		return state{}, err
	}
	s := state{cron: cron}
	for _, o := range objs {
		if j := o.(*batchv1.Job); j.Namespace == cron.Namespace {
			s.jobs = append(s.jobs, j)
		}
	}
	for _, ref := range cron.Status.Active {
		if slices.ContainsFunc(s.jobs, func(j *batchv1.Job) bool { return j.UID == ref.UID }) {
			continue
		}
		j, err := c.t.Clients.Kube.BatchV1().Jobs(cron.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || err == nil && j.UID != ref.UID:
			s.missing = append(s.missing, ref)
		case err != nil:
			return state{}, fmt.Errorf("reading active job %s: %w", ref.Name, err)
		case metav1.IsControlledBy(j, cron):
			s.jobs = append(s.jobs, j)
		}
	}
	s.now = time.Now()
	return s, nil
}

// apply writes a plan: what the history is too long by, the new job, the status.
func (c *controller) apply(ctx context.Context, cron *batchv1.CronJob, p plan) error {
	var errs []error
	for _, j := range p.surplus {
		errs = append(errs, c.delete(ctx, cron, corev1.ObjectReference{Name: j.Name, UID: j.UID}))
	}
	want := cron.DeepCopy()
	want.Status = p.status
	if !p.start.IsZero() {
		errs = append(errs, c.start(ctx, cron, p, &want.Status))
	}
	got, err := loop.Commit(ctx, c.t.Clients.Kube.BatchV1().CronJobs(cron.Namespace), cron, want)
	if err == nil && got != cron {
		c.wrote.Wrote(loop.KeyOf(cron), got.ResourceVersion)
	}
	return errors.Join(append(errs, err)...)
}

// start makes the job of a time, in place of those that it replaces, and notes it in the status.
func (c *controller) start(ctx context.Context, cron *batchv1.CronJob, p plan, s *batchv1.CronJobStatus) error {
	for i, old := range p.replace {
		if err := c.delete(ctx, cron, old); err != nil {
			s.Active = append(s.Active, p.replace[i:]...)
			return err
		}
	}
	jobs := c.t.Clients.Kube.BatchV1().Jobs(cron.Namespace)
	wanted := jobFor(cron, p.start)
	made, err := jobs.Create(ctx, wanted, metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // nothing can be made there any more, and soon neither are we
	case apierrors.IsAlreadyExists(err): // made just before we were ended, most likely
		if made, err = jobs.Get(ctx, wanted.Name, metav1.GetOptions{}); err != nil {
			return fmt.Errorf("reading job %s, whose name is taken: %w", wanted.Name, err)
		}
		if !metav1.IsControlledBy(made, cron) {
			c.t.Recorder.Eventf(cron, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", errTaken)
			return fmt.Errorf("making job %s: %w", wanted.Name, errTaken)
		}
	case err != nil:
		c.t.Recorder.Eventf(cron, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return fmt.Errorf("making job %s: %w", wanted.Name, err)
	default:
		c.skew.Observe(made.CreationTimestamp.Sub(p.start).Seconds())
		c.t.Recorder.Eventf(cron, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	}
	c.made.Wrote(loop.KeyOf(cron), made.ResourceVersion)
	if finished(made) == "" && !slices.ContainsFunc(s.Active, func(r corev1.ObjectReference) bool { return r.UID == made.UID }) {
		s.Active = append(s.Active, corev1.ObjectReference{
			APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job",
			Namespace: made.Namespace, Name: made.Name, UID: made.UID, ResourceVersion: made.ResourceVersion,
		})
	}
	s.LastScheduleTime = &metav1.Time{Time: p.start}
	return nil
}

var errTaken = errors.New("the name is taken by a job of somebody else")

// delete ends a job and its pods.
func (c *controller) delete(ctx context.Context, cron *batchv1.CronJob, ref corev1.ObjectReference) error {
	background := metav1.DeletePropagationBackground
	err := c.t.Clients.Kube.BatchV1().Jobs(cron.Namespace).Delete(ctx, ref.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(ref.UID)), PropagationPolicy: &background,
	})
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // gone, or another of that name
		return nil
	case err != nil:
		c.t.Recorder.Eventf(cron, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("deleting job %s: %w", ref.Name, err)
	}
	c.t.Recorder.Eventf(cron, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", ref.Name)
	return nil
}

// tell records what is to be said, but for what the last look at the same CronJob said already. A nil cron is one that is gone.
func (c *controller) tell(cron *batchv1.CronJob, key loop.Key, notes []note) {
	for _, n := range c.told.News(key, notes) {
		c.t.Recorder.Event(cron, n.kind, n.reason, n.message)
	}
}
