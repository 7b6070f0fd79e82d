package cronjob

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// many missed times are worth a warning when no deadline says how late a job may be.
const many = 100

// longest is how long we wait at most before looking at the clock again: it may have been set.
const longest = 10 * time.Minute

// state is all that a decision is made of.
type state struct {
	cron    *batchv1.CronJob
	jobs    []*batchv1.Job           // its own
	missing []corev1.ObjectReference // active ones that are not there any more
	now     time.Time
}

// plan is what to do about a CronJob.
type plan struct {
	status  batchv1.CronJobStatus    // but for the job to start
	start   time.Time                // of which a job is to be made; zero: none is
	replace []corev1.ObjectReference // to be deleted before that
	surplus []*batchv1.Job           // more than the history keeps
	again   time.Duration
	notes   []note
}

// note is an event to be told.
type note struct {
	kind, reason, message string
	of                    string // what tells it from another with the same words
}

func warn(reason, message string) *note {
	return &note{kind: corev1.EventTypeWarning, reason: reason, message: message}
}

func (p *plan) say(reason, format string, args ...any) {
	p.notes = append(p.notes, note{kind: corev1.EventTypeNormal, reason: reason, message: fmt.Sprintf(format, args...)})
}

func (p *plan) warn(reason, format string, args ...any) {
	p.notes = append(p.notes, *warn(reason, fmt.Sprintf(format, args...)))
}

// decide compares what has run with what should have.
func decide(s state) plan {
	p := plan{status: *s.cron.Status.DeepCopy(), surplus: surplus(s.cron, s.jobs)}
	p.settle(s)
	if s.cron.DeletionTimestamp == nil {
		p.schedule(s)
	}
	return p
}

// settle brings the status to what the jobs say.
func (p *plan) settle(s state) {
	for _, ref := range s.missing {
		p.drop(ref.UID)
		p.say("MissingJob", "Active job went missing: %v", ref.Name)
	}
	for _, j := range s.jobs {
		end := finished(j)
		active := slices.ContainsFunc(p.status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		switch {
		case end == "" && !active && j.DeletionTimestamp == nil:
			p.warn("UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
		case end != "" && active:
			p.drop(j.UID)
			p.say("SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, end)
		}
		if last := p.status.LastSuccessfulTime; end == batchv1.JobComplete && j.Status.CompletionTime != nil && (last == nil || last.Before(j.Status.CompletionTime)) {
			p.status.LastSuccessfulTime = j.Status.CompletionTime
		}
	}
}

func (p *plan) drop(uid types.UID) {
	p.status.Active = slices.DeleteFunc(p.status.Active, func(r corev1.ObjectReference) bool { return r.UID == uid })
}

// schedule finds whether a job is due, and when the next one is. However many times were missed, the last one is meant: what lies
// before it is not made up for.
func (p *plan) schedule(s state) {
	spec := &s.cron.Spec
	times, wrong := parse(spec.Schedule, spec.TimeZone)
	if wrong != nil {
		p.notes = append(p.notes, *wrong)
		return
	}
	if ptr.Deref(spec.Suspend, false) {
		return
	}
	since := s.cron.CreationTimestamp.Time
	if last := s.cron.Status.LastScheduleTime; last != nil {
		since = last.Time // which lies ahead of us when the clock was put back: those times have been run
	}
	next := times.next(since, s.now)
	if next.IsZero() && times.due(since, s.now).IsZero() {
		p.warn("InvalidSchedule", "invalid schedule: %s : no time fits it", spec.Schedule)
		return
	}
	if !next.IsZero() {
		p.again = min(next.Sub(s.now), longest)
	}
	due := times.due(since, s.now)
	if due.IsZero() {
		return
	}
	late := spec.StartingDeadlineSeconds
	switch {
	case late != nil && s.now.Sub(due) > time.Duration(*late)*time.Second:
		p.warn("MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return
	case late == nil && times.missed(since, due, many+1) > many:
		p.warn("TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	switch spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		if len(p.status.Active) > 0 {
			p.say("JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			p.notes[len(p.notes)-1].of = due.String()
			return
		}
	case batchv1.ReplaceConcurrent:
		p.replace, p.status.Active = p.status.Active, nil
	}
	p.start = due
}

// finished is the condition by which a job has ended, empty while it has not.
func finished(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// surplus are the oldest finished jobs that are more than the history limits keep.
func surplus(c *batchv1.CronJob, jobs []*batchv1.Job) []*batchv1.Job {
	var gone []*batchv1.Job
	for end, limit := range map[batchv1.JobConditionType]*int32{
		batchv1.JobComplete: c.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: c.Spec.FailedJobsHistoryLimit,
	} {
		if limit == nil {
			continue
		}
		var kept []*batchv1.Job
		for _, j := range jobs {
			if j.DeletionTimestamp == nil && finished(j) == end {
				kept = append(kept, j)
			}
		}
		slices.SortFunc(kept, func(a, b *batchv1.Job) int {
			return cmp.Or(started(a).Compare(started(b)), cmp.Compare(a.Name, b.Name))
		})
		gone = append(gone, kept[:max(len(kept)-int(*limit), 0)]...)
	}
	return gone
}

func started(j *batchv1.Job) time.Time {
	if j.Status.StartTime != nil {
		return j.Status.StartTime.Time
	}
	return j.CreationTimestamp.Time
}

// jobFor is the job of a time. Its name is made of the time, so that there are never two.
func jobFor(c *batchv1.CronJob, at time.Time) *batchv1.Job {
	t := c.Spec.JobTemplate.DeepCopy()
	if t.Annotations == nil {
		t.Annotations = map[string]string{}
	}
	if c.Spec.TimeZone != nil {
		if zone, err := time.LoadLocation(*c.Spec.TimeZone); err == nil { // as it was when the time was found
			at = at.In(zone)
		}
	}
	t.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: nameOf(c, at), Labels: t.Labels, Annotations: t.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, kind)},
		},
		Spec: t.Spec,
	}
}

func nameOf(c *batchv1.CronJob, at time.Time) string {
	return fmt.Sprintf("%s-%d", c.Name, at.Unix()/60)
}
