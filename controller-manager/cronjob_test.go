package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

func TestCronJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sub("cron-outage", testCronOutage)
	w.sub("cron-every", testCronEvery)
	w.sub("cron-policies", testCronPolicies)
	w.sub("cron-crash", testCronCrash)
	w.sub("cron-history", testCronHistory)
	w.sub("cron-faults", testCronFaults)
}

// newYear is the last time at which a cron of this test was due.
func newYear() time.Time { return time.Date(time.Now().UTC().Year(), 1, 1, 0, 0, 0, 0, time.UTC) }

func newYearName(cron string) string { return fmt.Sprintf("%s-%d", cron, newYear().Unix()/60) }

// cron makes a CronJob that is due each New Year and was last run two years ago. Its jobs are nobody's but the test's.
func (w *world) cron(ns, name string, changes ...func(*batchv1.CronJob)) *batchv1.CronJob {
	w.Helper()
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.CronJobSpec{
		Schedule: "0 0 1 1 *", TimeZone: ptr.To("UTC"), Suspend: ptr.To(true),
		JobTemplate: batchv1.JobTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"from": "template"}, Annotations: map[string]string{"kept": "yes"}},
			Spec: batchv1.JobSpec{ManagedBy: ptr.To("example.com/test"), Template: corev1.PodTemplateSpec{
				Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "v1"}}},
			}},
		},
	}}
	for _, change := range changes {
		change(c)
	}
	crons := w.kube.BatchV1().CronJobs(ns)
	made := must(crons.Create(w.Context(), c, metav1.CreateOptions{}))(w)
	made.Status.LastScheduleTime = ptr.To(metav1.NewTime(newYear().AddDate(-2, 0, 0)))
	return must(crons.UpdateStatus(w.Context(), made, metav1.UpdateOptions{}))(w)
}

func (w *world) resume(c *batchv1.CronJob) {
	w.Helper()
	must(w.kube.BatchV1().CronJobs(c.Namespace).Patch(w.Context(), c.Name, types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{}))(w)
}

func (w *world) cronNow(c *batchv1.CronJob) *batchv1.CronJob {
	w.Helper()
	return must(w.kube.BatchV1().CronJobs(c.Namespace).Get(w.Context(), c.Name, metav1.GetOptions{}))(w)
}

// jobsOf are the names of the jobs of a namespace.
func (w *world) jobsOf(ns string) string {
	w.Helper()
	var names []string
	for _, j := range must(w.kube.BatchV1().Jobs(ns).List(w.Context(), metav1.ListOptions{}))(w).Items {
		names = append(names, j.Name)
	}
	return strings.Join(names, " ")
}

// ranAtNewYear waits until the status says so.
func (w *world) ranAtNewYear(c *batchv1.CronJob) *batchv1.CronJob {
	w.Helper()
	w.until("the run of the last New Year", func() error {
		if c = w.cronNow(c); c.Status.LastScheduleTime == nil || !c.Status.LastScheduleTime.Time.Equal(newYear()) {
			return fmt.Errorf("%+v", c.Status)
		}
		return nil
	})
	return c
}

// heard waits for an event of that reason about an object, whose message begins so.
func (w *world) heard(ns, name, reason, message string) {
	w.Helper()
	w.until("the event "+reason, func() error {
		list := must(w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name}))(w)
		for _, e := range list.Items {
			if e.Reason == reason && strings.HasPrefix(e.Message, message) {
				return nil
			}
		}
		return fmt.Errorf("%d events, none of it", len(list.Items))
	})
}

// end ends a job by a condition.
func (w *world) end(ns, name string, by batchv1.JobConditionType, started time.Time) {
	w.Helper()
	jobs := w.kube.BatchV1().Jobs(ns)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		j := must(jobs.Get(w.Context(), name, metav1.GetOptions{}))(w)
		first := batchv1.JobConditionType(batchv1.JobSuccessCriteriaMet)
		j.Status.StartTime = ptr.To(metav1.NewTime(started))
		if by == batchv1.JobComplete {
			j.Status.CompletionTime = ptr.To(metav1.NewTime(started.Add(time.Second)))
		} else {
			first = batchv1.JobFailureTarget
		}
		for _, c := range []batchv1.JobConditionType{first, by} {
			j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
		}
		_, err := jobs.UpdateStatus(w.Context(), j, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
}

// testCronOutage: after three years of a job a minute, one is run and the next follows in its time.
func testCronOutage(w *world, ns string) {
	c := w.cron(ns, "tidy", func(c *batchv1.CronJob) { c.Spec.Schedule = "* * * * *" })
	before := time.Now().Truncate(time.Minute)
	w.resume(c)
	w.until("a job", func() error {
		if w.jobsOf(ns) == "" {
			return fmt.Errorf("%+v", w.cronNow(c).Status)
		}
		return nil
	})
	jobs := must(w.kube.BatchV1().Jobs(ns).List(w.Context(), metav1.ListOptions{}))(w).Items
	if n := len(jobs); n > 2 { // two if a minute began just now
		w.Fatalf("%d jobs", n)
	}
	j := &jobs[0]
	at, err := time.Parse(time.RFC3339, j.Annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"])
	if err != nil || at.Before(before) || j.Name != fmt.Sprintf("tidy-%d", at.Unix()/60) {
		w.Errorf("%s is for %v (%v), we began at %v", j.Name, at, err, before)
	}
	if !metav1.IsControlledBy(j, c) || j.Labels["from"] != "template" || j.Annotations["kept"] != "yes" {
		w.Errorf("%+v", j.ObjectMeta)
	}
	w.heard(ns, "tidy", "TooManyMissedTimes", "too many missed start times")
	w.heard(ns, "tidy", "SuccessfulCreate", "Created job "+j.Name)
	w.until("the job in the status", func() error {
		s := w.cronNow(c).Status
		if len(s.Active) == 0 || s.Active[0].UID != j.UID || s.Active[0].Kind != "Job" || s.Active[0].APIVersion != "batch/v1" || s.LastScheduleTime.Time.Before(at) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	w.end(ns, j.Name, batchv1.JobComplete, time.Now())
	w.heard(ns, "tidy", "SawCompletedJob", "Saw completed job: "+j.Name+", condition: Complete")
	w.until("its success in the status", func() error {
		s := w.cronNow(c).Status
		for _, a := range s.Active {
			if a.UID == j.UID {
				return fmt.Errorf("it is active")
			}
		}
		if s.LastSuccessfulTime == nil {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	must(w.kube.BatchV1().CronJobs(ns).Patch(w.Context(), "tidy", types.MergePatchType, []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{}))(w)
}

// testCronEvery: nobody wakes it but the clock.
func testCronEvery(w *world, ns string) {
	c := must(w.kube.BatchV1().CronJobs(ns).Create(w.Context(), &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "often"}, Spec: batchv1.CronJobSpec{
		Schedule: "@every 2s", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{ManagedBy: ptr.To("example.com/test"), Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}}},
	}}, metav1.CreateOptions{}))(w)
	w.until("a job", func() error {
		s := w.cronNow(c).Status
		if w.jobsOf(ns) == "" || s.LastScheduleTime == nil {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if first := c.CreationTimestamp.Add(2 * time.Second); w.cronNow(c).Status.LastScheduleTime.Time.Before(first) {
		w.Errorf("it ran before %v", first)
	}
	must(w.kube.BatchV1().CronJobs(ns).Patch(w.Context(), "often", types.MergePatchType, []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{}))(w)
}

func testCronPolicies(w *world, ns string) {
	again := func(c *batchv1.CronJob) { // as if two years had gone by since the last run
		w.Helper()
		must(w.kube.BatchV1().CronJobs(ns).Patch(w.Context(), c.Name, types.MergePatchType,
			fmt.Appendf(nil, `{"status":{"lastScheduleTime":%q}}`, newYear().AddDate(-2, 0, 0).Format(time.RFC3339)), metav1.PatchOptions{}, "status"))(w)
	}
	for _, policy := range []batchv1.ConcurrencyPolicy{batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent, batchv1.AllowConcurrent} {
		name := strings.ToLower(string(policy))
		c := w.cron(ns, name, func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = policy })
		w.resume(c)
		c = w.ranAtNewYear(c)
		first := must(w.kube.BatchV1().Jobs(ns).Get(w.Context(), newYearName(name), metav1.GetOptions{}))(w)
		again(c)
		switch policy {
		case batchv1.ForbidConcurrent:
			w.heard(ns, name, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			w.end(ns, first.Name, batchv1.JobComplete, time.Now()) // now it may, and finds that this time has been run
			w.ranAtNewYear(c)
		case batchv1.ReplaceConcurrent:
			w.heard(ns, name, "SuccessfulDelete", "Deleted job "+first.Name)
			c = w.ranAtNewYear(c)
			second := must(w.kube.BatchV1().Jobs(ns).Get(w.Context(), first.Name, metav1.GetOptions{}))(w)
			if second.UID == first.UID || len(c.Status.Active) != 1 || c.Status.Active[0].UID != second.UID {
				w.Errorf("not replaced: %+v", c.Status)
			}
		case batchv1.AllowConcurrent: // the name is taken, by us: nothing is made twice
			c = w.ranAtNewYear(c)
			if len(c.Status.Active) != 1 || c.Status.Active[0].UID != first.UID {
				w.Errorf("%+v", c.Status)
			}
		}
	}
}

// testCronCrash: who made a job and was ended before he could say so finds it again; a job of somebody else is left alone.
func testCronCrash(w *world, ns string) {
	c := w.cron(ns, "crash")
	job := func(name string, owner *batchv1.CronJob) *batchv1.Job {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: c.Spec.JobTemplate.Spec}
		if owner != nil {
			j.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, batchv1.SchemeGroupVersion.WithKind("CronJob"))}
		}
		return must(w.kube.BatchV1().Jobs(ns).Create(w.Context(), j, metav1.CreateOptions{}))(w)
	}
	mine := job(newYearName("crash"), c)
	w.heard(ns, "crash", "UnexpectedJob", "Saw a job that the controller did not create or forgot: "+mine.Name)
	w.resume(c)
	if c = w.ranAtNewYear(c); len(c.Status.Active) != 1 || c.Status.Active[0].UID != mine.UID || w.jobsOf(ns) != mine.Name {
		w.Errorf("%+v, jobs %s", c.Status, w.jobsOf(ns))
	}
	if err := w.kube.BatchV1().Jobs(ns).Delete(w.Context(), mine.Name, metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}); err != nil {
		w.Fatal(err)
	}
	w.heard(ns, "crash", "MissingJob", "Active job went missing: "+mine.Name)
	if w.jobsOf(ns) != "" {
		w.Errorf("jobs %s", w.jobsOf(ns))
	}

	other := w.cron(ns, "taken")
	theirs := job(newYearName("taken"), nil)
	w.resume(other)
	w.heard(ns, "taken", "FailedCreate", "Error creating job")
	if got := must(w.kube.BatchV1().Jobs(ns).Get(w.Context(), theirs.Name, metav1.GetOptions{}))(w); len(got.OwnerReferences) > 0 {
		w.Errorf("it was adopted: %+v", got.OwnerReferences)
	}
}

func testCronHistory(w *world, ns string) {
	c := w.cron(ns, "old", func(c *batchv1.CronJob) { c.Spec.SuccessfulJobsHistoryLimit = ptr.To[int32](2) })
	for i := range 4 {
		for _, end := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
			name := fmt.Sprintf("%s-%d", strings.ToLower(string(end)), i)
			must(w.kube.BatchV1().Jobs(ns).Create(w.Context(), &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, batchv1.SchemeGroupVersion.WithKind("CronJob"))}},
				Spec:       c.Spec.JobTemplate.Spec,
			}, metav1.CreateOptions{}))(w)
			w.end(ns, name, end, time.Now().Add(time.Duration(i-10)*time.Minute))
		}
	}
	w.until("the newest to be left", func() error {
		if got := w.jobsOf(ns); got != "complete-2 complete-3 failed-3" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	w.heard(ns, "old", "SuccessfulDelete", "Deleted job complete-0")
}

// testCronFaults: what cannot be run says why.
func testCronFaults(w *world, ns string) {
	w.resume(w.cron(ns, "february", func(c *batchv1.CronJob) { c.Spec.Schedule = "0 0 30 2 *" }))
	w.heard(ns, "february", "InvalidSchedule", "invalid schedule: 0 0 30 2 *")
	w.resume(w.cron(ns, "late", func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = ptr.To[int64](1) }))
	w.heard(ns, "late", "MissSchedule", "Missed scheduled time to start a job: "+newYear().Format(time.RFC1123Z))
	if got := w.jobsOf(ns); got != "" {
		w.Errorf("jobs %s", got)
	}
}
