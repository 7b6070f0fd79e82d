package cronjob

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// hourly was made at half past nine of that day and has run at eleven.
func hourly(changes ...func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "tidy", UID: "cron", CreationTimestamp: metav1.NewTime(noon.Add(-150 * time.Minute))},
		Spec: batchv1.CronJobSpec{Schedule: "0 * * * *", TimeZone: ptr.To("UTC"), ConcurrencyPolicy: batchv1.AllowConcurrent,
			SuccessfulJobsHistoryLimit: ptr.To[int32](2), FailedJobsHistoryLimit: ptr.To[int32](1)},
		Status: batchv1.CronJobStatus{LastScheduleTime: ptr.To(metav1.NewTime(noon.Add(-time.Hour)))},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func policy(p batchv1.ConcurrencyPolicy) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = p }
}

func deadline(seconds int64) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &seconds }
}

func last(t time.Time) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Status.LastScheduleTime = ptr.To(metav1.NewTime(t)) }
}

func schedules(text string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.Schedule = text }
}

func active(names ...string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) {
		for _, n := range names {
			c.Status.Active = append(c.Status.Active, corev1.ObjectReference{Name: n, UID: types.UID(n)})
		}
	}
}

func suspended(c *batchv1.CronJob) { c.Spec.Suspend = ptr.To(true) }
func leaving(c *batchv1.CronJob)   { c.DeletionTimestamp = ptr.To(metav1.NewTime(noon)) }

// run is a job of that name, ended by a condition at a number of minutes before noon; empty: it runs.
func run(name string, end batchv1.JobConditionType, minutes int) *batchv1.Job {
	at := metav1.NewTime(noon.Add(-time.Duration(minutes) * time.Minute))
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Status: batchv1.JobStatus{StartTime: &at}}
	if end != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: "Suspended", Status: corev1.ConditionTrue}, {Type: end, Status: corev1.ConditionTrue}}
	}
	if end == batchv1.JobComplete {
		j.Status.CompletionTime = &at
	}
	return j
}

func TestDecide(t *testing.T) {
	const halfPast = 30 * time.Minute
	for name, tc := range map[string]struct {
		cron    *batchv1.CronJob
		jobs    []*batchv1.Job
		missing []string
		after   time.Duration // noon
		start   time.Duration // after noon, or not at all
		not     bool
		active  string
		replace string
		surplus string
		again   time.Duration
		notes   string
	}{
		"on time":                {cron: hourly(), again: longest},
		"a moment too early":     {cron: hourly(), after: -time.Millisecond, not: true, again: time.Millisecond},
		"soon":                   {cron: hourly(), after: -3 * time.Minute, not: true, again: 3 * time.Minute},
		"done":                   {cron: hourly(last(noon)), after: 58 * time.Minute, not: true, again: 2 * time.Minute},
		"never run yet":          {cron: hourly(func(c *batchv1.CronJob) { c.Status.LastScheduleTime = nil }), again: longest},
		"made at that moment":    {cron: hourly(func(c *batchv1.CronJob) { c.Status.LastScheduleTime = nil; c.CreationTimestamp = metav1.NewTime(noon) }), not: true, again: longest},
		"suspended":              {cron: hourly(suspended), not: true},
		"going":                  {cron: hourly(leaving), not: true},
		"a few were missed":      {cron: hourly(last(noon.Add(-6 * time.Hour))), after: halfPast, again: longest},
		"a hundred":              {cron: hourly(last(noon.Add(-100 * time.Hour))), again: longest},
		"more than a hundred":    {cron: hourly(last(noon.Add(-101 * time.Hour))), again: longest, notes: "TooManyMissedTimes"},
		"twenty years of hours":  {cron: hourly(last(noon.AddDate(-20, 0, 0))), again: longest, notes: "TooManyMissedTimes"},
		"and with a deadline":    {cron: hourly(last(noon.AddDate(-20, 0, 0)), deadline(60)), again: longest},
		"within the deadline":    {cron: hourly(deadline(200)), after: 200 * time.Second, again: longest},
		"too late":               {cron: hourly(deadline(200)), after: 201 * time.Second, not: true, again: longest, notes: "MissSchedule Missed scheduled time to start a job: Mon, 01 Jun 2026 12:00:00 +0000"},
		"the clock was put back": {cron: hourly(last(noon.Add(3 * time.Hour))), after: halfPast, not: true, again: longest},
		"no zone of that name":   {cron: hourly(func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("Mars/Olympus") }), not: true, notes: "UnknownTimeZone"},
		"no schedule":            {cron: hourly(schedules("often")), not: true, notes: "UnparseableSchedule"},
		"30 February":            {cron: hourly(schedules("0 0 30 2 *")), not: true, notes: "InvalidSchedule"},
		"one leap day":           {cron: hourly(schedules("0 12 29 2 *")), not: true, again: longest},

		"allowed beside another": {cron: hourly(active("a")), jobs: []*batchv1.Job{run("a", "", 60)}, active: "a", again: longest},
		"forbidden": {cron: hourly(policy(batchv1.ForbidConcurrent), active("a")), jobs: []*batchv1.Job{run("a", "", 60)}, not: true, active: "a", again: longest,
			notes: "JobAlreadyActive Not starting job because prior execution is running and concurrency policy is Forbid"},
		"forbidden until it ends": {cron: hourly(policy(batchv1.ForbidConcurrent), active("a")), jobs: []*batchv1.Job{run("a", batchv1.JobFailed, 60)}, again: longest,
			notes: "SawCompletedJob Saw completed job: a, condition: Failed"},
		"in place of another": {cron: hourly(policy(batchv1.ReplaceConcurrent), active("a", "b")), jobs: []*batchv1.Job{run("a", "", 60), run("b", "", 60)}, replace: "a b", again: longest},
		"nothing to replace":  {cron: hourly(policy(batchv1.ReplaceConcurrent), active("a"), last(noon)), jobs: []*batchv1.Job{run("a", "", 60)}, not: true, active: "a", again: longest},

		"ended": {cron: hourly(active("a", "b"), last(noon)), jobs: []*batchv1.Job{run("a", batchv1.JobComplete, 10), run("b", "", 60)}, not: true, active: "b", again: longest,
			notes: "SawCompletedJob Saw completed job: a, condition: Complete"},
		"gone":       {cron: hourly(active("a", "b"), last(noon)), jobs: []*batchv1.Job{run("a", "", 10)}, missing: []string{"b"}, not: true, active: "a", again: longest, notes: "MissingJob Active job went missing: b"},
		"unexpected": {cron: hourly(last(noon)), jobs: []*batchv1.Job{run("a", "", 10)}, not: true, again: longest, notes: "UnexpectedJob Saw a job that the controller did not create or forgot: a"},
		"history": {cron: hourly(last(noon), suspended), not: true, surplus: "b d e", jobs: []*batchv1.Job{
			run("a", batchv1.JobComplete, 10), run("b", batchv1.JobComplete, 30), run("c", batchv1.JobComplete, 20),
			run("d", batchv1.JobFailed, 50), run("e", batchv1.JobFailed, 40), run("f", batchv1.JobFailed, 30)}},
		"no history": {cron: hourly(last(noon), suspended, func(c *batchv1.CronJob) {
			c.Spec.SuccessfulJobsHistoryLimit, c.Spec.FailedJobsHistoryLimit = ptr.To[int32](0), nil
		}), not: true, surplus: "a", jobs: []*batchv1.Job{run("a", batchv1.JobComplete, 10), run("d", batchv1.JobFailed, 50), run("e", batchv1.JobFailed, 40)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := state{cron: tc.cron, jobs: tc.jobs, now: noon.Add(tc.after)}
			for _, m := range tc.missing {
				s.missing = append(s.missing, corev1.ObjectReference{Name: m, UID: types.UID(m)})
			}
			p := decide(s)
			if want := noon.Add(tc.start); tc.not != p.start.IsZero() || !tc.not && !p.start.Equal(want) {
				t.Errorf("starts %v, want %v (not at all: %v)", p.start, want, tc.not)
			}
			if p.again != tc.again {
				t.Errorf("looks again after %v, want %v", p.again, tc.again)
			}
			var gone []string
			for _, j := range p.surplus {
				gone = append(gone, j.Name)
			}
			slices.Sort(gone)
			for what, pair := range map[string][2]string{
				"active": {names(p.status.Active), tc.active}, "replaced": {names(p.replace), tc.replace}, "surplus": {strings.Join(gone, " "), tc.surplus},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s: %q, want %q", what, pair[0], pair[1])
				}
			}
			said := ""
			for _, n := range p.notes {
				said += n.reason + " " + n.message
			}
			if !strings.HasPrefix(said, tc.notes) || tc.notes == "" && said != "" {
				t.Errorf("says %q, want %q", said, tc.notes)
			}
		})
	}
}

func names(refs []corev1.ObjectReference) string {
	var out []string
	for _, r := range refs {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

func TestLastSuccess(t *testing.T) {
	p := decide(state{cron: hourly(last(noon), suspended), now: noon, jobs: []*batchv1.Job{
		run("a", batchv1.JobComplete, 10), run("b", batchv1.JobComplete, 5), run("c", batchv1.JobFailed, 1), run("d", batchv1.JobComplete, 7)}})
	if got := p.status.LastSuccessfulTime; got == nil || !got.Time.Equal(noon.Add(-5*time.Minute)) {
		t.Errorf("last success %v, want five to twelve", got)
	}
	if p.status.LastScheduleTime == nil || !p.status.LastScheduleTime.Time.Equal(noon) {
		t.Errorf("last schedule %v", p.status.LastScheduleTime)
	}
}

// TestStory plays some days: whoever looks again when told to makes each job at its time, and each but once, though the clock is
// put back now and then, nobody looks for a day, and whoever makes a job may forget that he did.
func TestStory(t *testing.T) {
	for _, zone := range []string{"UTC", "America/New_York", "Europe/Berlin"} {
		c := hourly(func(c *batchv1.CronJob) { c.Spec.Schedule, c.Spec.TimeZone = "*/15 1-3,12 * * *", &zone })
		now := time.Date(2026, 3, 6, 0, 0, 0, 0, time.UTC)
		c.CreationTimestamp, c.Status = metav1.NewTime(now), batchv1.CronJobStatus{}
		made := map[string]bool{}
		var late []time.Duration
		for look := 0; now.Before(time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC)); look++ {
			p := decide(state{cron: c, now: now})
			if !p.start.IsZero() {
				name := nameOf(c, p.start)
				if made[name] && look%7 != 1 { // only who forgot may try again, and meets the name
					t.Fatalf("%s: %s is made again at %v", zone, name, now)
				}
				made[name] = true
				late = append(late, now.Sub(p.start))
				if look%7 != 0 {
					c.Status.LastScheduleTime = ptr.To(metav1.NewTime(p.start))
				} else {
					continue
				}
			}
			switch {
			case look%50 == 0:
				now = now.Add(-2 * time.Hour)
			case look == 300:
				now = now.Add(26 * time.Hour)
			default:
				now = now.Add(p.again)
			}
		}
		if slices.Max(late[:20]) != 0 {
			t.Errorf("%s: late by %v", zone, late[:20])
		}
		if len(made) < 300 {
			t.Errorf("%s: only %d jobs", zone, len(made))
		}
	}
}

func TestJobFor(t *testing.T) {
	c := hourly()
	c.Spec.TimeZone = ptr.To("Asia/Tokyo")
	c.Spec.JobTemplate.Labels = map[string]string{"a": "b"}
	c.Spec.JobTemplate.Annotations = map[string]string{"c": "d"}
	j := jobFor(c, noon)
	if want := fmt.Sprintf("tidy-%d", noon.Unix()/60); j.Name != want || j.Namespace != "ns" || j.Labels["a"] != "b" || j.Annotations["c"] != "d" {
		t.Errorf("%+v", j.ObjectMeta)
	}
	if got := j.Annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"]; got != "2026-06-01T21:00:00+09:00" {
		t.Errorf("scheduled for %s", got)
	}
	if !metav1.IsControlledBy(j, c) || j.OwnerReferences[0].Kind != "CronJob" || j.OwnerReferences[0].APIVersion != "batch/v1" {
		t.Errorf("%+v", j.OwnerReferences)
	}
	if len(c.Spec.JobTemplate.Annotations) != 1 {
		t.Error("the template was changed")
	}
}
