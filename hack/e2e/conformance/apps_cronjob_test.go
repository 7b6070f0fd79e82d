package conformance

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedbatch "k8s.io/client-go/kubernetes/typed/batch/v1"
)

// nextMinute is how long a row waits for what the clock does once a minute.
const nextMinute = 100 * time.Second

// crons are CronJobs under test, each due every minute.
type crons struct {
	*row
	client typedbatch.CronJobInterface
	jobs   typedbatch.JobInterface
}

func (r *row) crons() *crons {
	r.Helper()
	ns := r.namespace()
	return &crons{r, r.kube.BatchV1().CronJobs(ns), r.kube.BatchV1().Jobs(ns)}
}

// Schedules: the one is due at the last New Year, the other at the last full minute.
const (
	yearly   = "0 0 1 1 *"
	minutely = "*/1 * * * *"
)

// create makes a CronJob whose jobs go on for long.
func (c *crons) create(name, schedule string, policy batchv1.ConcurrencyPolicy, suspend bool) {
	c.Helper()
	second := int64(1)
	pod := application("", "pause")
	pod.Spec.RestartPolicy, pod.Spec.TerminationGracePeriodSeconds = corev1.RestartPolicyOnFailure, &second
	_, err := c.client.Create(c.ctx, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.CronJobSpec{
		Schedule: schedule, ConcurrencyPolicy: policy, Suspend: &suspend,
		JobTemplate: batchv1.JobTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{rowLabel: name}},
			Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: pod.Spec}},
		},
	}}, metav1.CreateOptions{})
	c.must(err, "creating a CronJob")
}

// due says in the status of a CronJob that it ran two years ago, so that it is due now, whatever its schedule.
func (c *crons) due(name string) {
	c.Helper()
	before := time.Now().AddDate(-2, 0, 0).UTC().Format(time.RFC3339)
	_, err := c.client.Patch(c.ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"status":{"lastScheduleTime":%q}}`, before), metav1.PatchOptions{}, "status")
	c.must(err, "patching the status")
}

// running makes a CronJob with a job of the last New Year, which it returns.
func (c *crons) running(name string, policy batchv1.ConcurrencyPolicy) batchv1.Job {
	c.Helper()
	c.create(name, yearly, policy, false)
	c.due(name)
	c.minute("a job is active", func() (bool, error) { return len(c.active(name)) > 0, nil })
	c.status(name, 1)
	return c.active(name)[0]
}

// again makes a CronJob that has run at New Year due at the last full minute.
func (c *crons) again(name string) {
	c.Helper()
	_, err := c.client.Patch(c.ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"schedule":%q}}`, minutely), metav1.PatchOptions{})
	c.must(err, "patching the schedule")
}

// minute is eventually for what the clock does once a minute. An error says why not, and is nothing when it is so.
func (c *crons) minute(what string, ask func() (bool, error)) {
	c.Helper()
	c.within(nextMinute, what, ask)
}

// active are the jobs of a CronJob that have not ended, nor are about to.
func (c *crons) active(name string) (active []batchv1.Job) {
	c.Helper()
	list, err := c.jobs.List(c.ctx, labelled(name))
	c.must(err, "listing jobs")
	for _, j := range list.Items {
		if j.DeletionTimestamp == nil && j.Status.CompletionTime == nil {
			active = append(active, j)
		}
	}
	return active
}

// status waits until the CronJob's status names so many active jobs.
func (c *crons) status(name string, want int) {
	c.Helper()
	c.eventually(fmt.Sprintf("the status of %s names %d jobs", name, want), func() (bool, error) {
		got, err := c.client.Get(c.ctx, name, metav1.GetOptions{})
		if err == nil && len(got.Status.Active) != want {
			err = fmt.Errorf("status %s", asJSON(got.Status))
		}
		return err == nil, err
	})
}

// APP-002: while it is suspended, a CronJob makes no jobs, though it is due: another, which is not suspended, does.
func cronJobSuspended(r *row) {
	c := r.crons()
	c.create("tick", minutely, batchv1.AllowConcurrent, true)
	c.due("tick")
	c.create("witness", minutely, batchv1.AllowConcurrent, false)
	c.due("witness")
	c.status("witness", 1)
	r.equal("jobs of the suspended one", len(c.active("tick")), 0)
	c.status("tick", 0)
}

// APP-003: while a job runs, a CronJob that forbids another makes none, while one that does not does.
func cronJobForbids(r *row) {
	c := r.crons()
	first := c.running("tick", batchv1.ForbidConcurrent)
	c.running("witness", batchv1.AllowConcurrent)
	c.again("tick")
	c.again("witness")
	c.status("witness", 2)
	active := c.active("tick")
	r.equal("jobs", len(active), 1)
	r.equal("the one of them", active[0].UID, first.UID)
	c.status("tick", 1)
}

// APP-004: a job that still runs makes room for the next.
func cronJobReplaces(r *row) {
	c := r.crons()
	first := c.running("tick", batchv1.ReplaceConcurrent)
	c.again("tick")
	c.minute("another job is in its place", func() (bool, error) {
		active := c.active("tick")
		return len(active) == 1 && active[0].UID != first.UID, fmt.Errorf("%d are active", len(active))
	})
	c.status("tick", 1)
}

// APP-005: a job runs beside one that still does. Here the clock is waited for: the second job is that of the next full minute.
func cronJobAllows(r *row) {
	c := r.crons()
	c.create("tick", minutely, batchv1.AllowConcurrent, false)
	c.due("tick")
	c.minute("a job is active", func() (bool, error) { return len(c.active("tick")) > 0, nil })
	c.minute("two jobs are active", func() (bool, error) { return len(c.active("tick")) >= 2, nil })
}
