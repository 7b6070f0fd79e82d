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

// create makes a CronJob whose jobs go on for long.
func (c *crons) create(name string, policy batchv1.ConcurrencyPolicy, suspend bool) {
	c.Helper()
	second := int64(1)
	pod := application("", "pause")
	pod.Spec.RestartPolicy, pod.Spec.TerminationGracePeriodSeconds = corev1.RestartPolicyOnFailure, &second
	_, err := c.client.Create(c.ctx, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.CronJobSpec{
		Schedule: "*/1 * * * *", ConcurrencyPolicy: policy, Suspend: &suspend,
		JobTemplate: batchv1.JobTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{rowLabel: name}},
			Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: pod.Spec}},
		},
	}}, metav1.CreateOptions{})
	c.must(err, "creating a CronJob")
}

// running makes a CronJob that last ran, as its status says, long ago, so that its first job need not be waited for, and returns it.
func (c *crons) running(policy batchv1.ConcurrencyPolicy) batchv1.Job {
	c.Helper()
	c.create("tick", policy, false)
	before := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	_, err := c.client.Patch(c.ctx, "tick", types.MergePatchType, fmt.Appendf(nil, `{"status":{"lastScheduleTime":%q}}`, before), metav1.PatchOptions{}, "status")
	c.must(err, "patching the status")
	var first batchv1.Job
	c.minute("a job is active", func() (bool, error) {
		active := c.active("tick")
		if len(active) > 0 {
			first = active[0]
		}
		return len(active) > 0, nil
	})
	return first
}

// minute is eventually for what the clock does once a minute. An error says why not, and is nothing when it is so.
func (c *crons) minute(what string, ask func() (bool, error)) {
	c.Helper()
	for deadline := time.Now().Add(nextMinute); ; time.Sleep(100 * time.Millisecond) {
		yes, err := ask()
		if yes {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("not within %v: %s (%v)", nextMinute, what, err)
		}
	}
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

// another waits until the clock has made one more job of another CronJob than that under test has been seen to have: then its own
// time has come, too.
func (c *crons) another() {
	c.Helper()
	c.create("witness", batchv1.AllowConcurrent, false)
	c.minute("a witness has a job", func() (bool, error) { return len(c.active("witness")) > 0, nil })
	c.status("witness", 1)
}

// APP-002: while it is suspended, a CronJob makes no jobs.
func cronJobSuspended(r *row) {
	c := r.crons()
	c.create("tick", batchv1.AllowConcurrent, true)
	c.another()
	r.equal("jobs of the suspended one", len(c.active("tick")), 0)
	c.status("tick", 0)
}

// APP-003: while a job runs, a CronJob that forbids another makes none.
func cronJobForbids(r *row) {
	c := r.crons()
	first := c.running(batchv1.ForbidConcurrent)
	c.status("tick", 1)
	c.another()
	active := c.active("tick")
	r.equal("jobs after another minute", len(active), 1)
	r.equal("the one of them", active[0].UID, first.UID)
	c.status("tick", 1)
}

// APP-004: a job that still runs makes room for the next.
func cronJobReplaces(r *row) {
	c := r.crons()
	first := c.running(batchv1.ReplaceConcurrent)
	c.minute("another job is in its place", func() (bool, error) {
		active := c.active("tick")
		return len(active) == 1 && active[0].UID != first.UID, fmt.Errorf("%d are active", len(active))
	})
	c.status("tick", 1)
}

// APP-005: a job runs beside one that still does.
func cronJobAllows(r *row) {
	c := r.crons()
	c.running(batchv1.AllowConcurrent)
	c.minute("two jobs are active", func() (bool, error) { return len(c.active("tick")) >= 2, nil })
	c.status("tick", 2)
}
