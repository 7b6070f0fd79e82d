package conformance

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	typedbatch "k8s.io/client-go/kubernetes/typed/batch/v1"
	"k8s.io/utils/ptr"
)

// What the container of a job does: programs of the shell in busybox.
const (
	jobSucceeds = `exit 0`
	jobStays    = `trap 'exit 1' TERM; while true; do sleep 0.1; done`
	jobOddOnly  = `[ $((JOB_COMPLETION_INDEX % 2)) -eq 1 ]`
	jobZeroOnly = `[ "$JOB_COMPLETION_INDEX" = 0 ] && exit 0; trap 'exit 1' TERM; while true; do sleep 0.1; done`
)

// jobs are those of one namespace.
type jobs struct {
	*row
	ns     string
	client typedbatch.JobInterface
}

func (r *row) jobs() *jobs {
	r.Helper()
	ns := r.namespace()
	return &jobs{r, ns, r.kube.BatchV1().Jobs(ns)}
}

// create makes a job of four completions, two at a time, whose pods run a program.
func (j *jobs) create(program string, change ...func(*batchv1.Job)) *batchv1.Job {
	j.Helper()
	want := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "work"},
		Spec: batchv1.JobSpec{
			Completions: ptr.To[int32](4), Parallelism: ptr.To[int32](2), BackoffLimit: ptr.To[int32](6),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: ptr.To[int64](5),
				Containers: []corev1.Container{{Name: "c", Image: "busybox", Command: []string{"sh", "-c", program}}},
			}},
		},
	}
	for _, c := range change {
		c(want)
	}
	made, err := j.client.Create(j.ctx, want, metav1.CreateOptions{})
	j.must(err, "creating a job")
	return made
}

func jobByIndex(j *batchv1.Job) { j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion) }

func jobOf(completions, parallelism int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = &completions, &parallelism }
}

func jobRules(rules ...batchv1.PodFailurePolicyRule) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: rules} }
}

// is waits until the job is as ok wants it.
func (j *jobs) is(what string, ok func(*batchv1.Job) bool) (got *batchv1.Job) {
	j.Helper()
	j.settles("the job is "+what, func() (bool, error) {
		var err error
		if got, err = j.client.Get(j.ctx, "work", metav1.GetOptions{}); err != nil {
			return false, err
		}
		if !ok(got) {
			return false, fmt.Errorf("its status is %s", asJSON(got.Status))
		}
		return true, nil
	})
	return got
}

func conditionOf(j *batchv1.Job, what batchv1.JobConditionType) *batchv1.JobCondition {
	i := slices.IndexFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == what && c.Status == corev1.ConditionTrue })
	if i < 0 {
		return nil
	}
	return &j.Status.Conditions[i]
}

// complete and fail wait for the job's end, and check that what it would be was said before, for the same reason.
func (j *jobs) complete(reason string) *batchv1.Job {
	j.Helper()
	return j.end(batchv1.JobSuccessCriteriaMet, batchv1.JobComplete, reason)
}

func (j *jobs) fail(reason string) *batchv1.Job {
	j.Helper()
	return j.end(batchv1.JobFailureTarget, batchv1.JobFailed, reason)
}

func (j *jobs) end(interim, final batchv1.JobConditionType, reason string) *batchv1.Job {
	j.Helper()
	got := j.is(string(final), func(o *batchv1.Job) bool { return conditionOf(o, final) != nil })
	j.equal("reason of "+string(final), conditionOf(got, final).Reason, reason)
	if c := conditionOf(got, interim); c == nil || c.Reason != reason {
		j.Fatalf("conditions %s, want %s for %s among them", asJSON(got.Status.Conditions), interim, reason)
	}
	j.equal("pods that are active or terminating at the end", int(got.Status.Active)+int(ptr.Deref(got.Status.Terminating, 0)), 0)
	return got
}

func (j *jobs) pods() []corev1.Pod {
	j.Helper()
	list, err := j.kube.CoreV1().Pods(j.ns).List(j.ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=work"})
	j.must(err, "listing the job's pods")
	return list.Items
}

// running waits until so many pods of the job run.
func (j *jobs) running(n int) (all []corev1.Pod) {
	j.Helper()
	j.settles(fmt.Sprintf("%d of the job's pods run", n), func() (bool, error) {
		all = slices.DeleteFunc(j.pods(), func(p corev1.Pod) bool {
			return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil
		})
		return len(all) == n, fmt.Errorf("%d do", len(all))
	})
	return all
}

// counted checks the numbers and the indexes at the end; "-" is no list of failed indexes.
func (j *jobs) counted(got *batchv1.Job, succeeded, failed int, completedIndexes, failedIndexes string) {
	j.Helper()
	s := got.Status
	j.equal("succeeded, failed and indexes", []any{s.Succeeded, s.Failed, s.CompletedIndexes, ptr.Deref(s.FailedIndexes, "-")},
		[]any{int32(succeeded), int32(failed), completedIndexes, failedIndexes})
}

// APP-027: a pod that lost its owner is adopted again, one that lost its labels is let go.
func jobAdopts(r *row) {
	j := r.jobs()
	made := j.create(jobStays)
	pod := j.running(2)[0]
	pods := r.kube.CoreV1().Pods(j.ns)
	_, err := pods.Patch(r.ctx, pod.Name, types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`), metav1.PatchOptions{})
	r.must(err, "taking the pod's owner away")
	r.settles("the pod has its owner again", func() (bool, error) {
		p, err := pods.Get(r.ctx, pod.Name, metav1.GetOptions{})
		return err == nil && metav1.IsControlledBy(p, made), err
	})
	_, err = pods.Patch(r.ctx, pod.Name, types.MergePatchType, []byte(`{"metadata":{"labels":null}}`), metav1.PatchOptions{})
	r.must(err, "taking the pod's labels away")
	r.settles("the pod has no owner", func() (bool, error) {
		p, err := pods.Get(r.ctx, pod.Name, metav1.GetOptions{})
		return err == nil && metav1.GetControllerOf(p) == nil, err
	})
}

// APP-028: a pod that is evicted is replaced, and its end does not count towards a limit of none.
func jobIgnoresDisruption(r *row) {
	j := r.jobs()
	j.create(`trap 'exit 1' TERM; i=0; while [ $i -lt 80 ]; do sleep 0.1; i=$((i+1)); done; exit 0`, jobOf(1, 1),
		jobRules(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		}}}), func(o *batchv1.Job) { o.Spec.BackoffLimit = ptr.To[int32](0) })
	first := j.running(1)[0]
	err := r.kube.PolicyV1().Evictions(j.ns).Evict(r.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: first.Name, Namespace: j.ns}})
	r.must(err, "evicting the pod")
	r.settles("the evicted pod is gone", func() (bool, error) {
		_, err := r.kube.CoreV1().Pods(j.ns).Get(r.ctx, first.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
	j.counted(j.complete(batchv1.JobReasonCompletionsReached), 1, 0, "", "-")
}

// APP-029: a job fails at once by an exit code, long before its limit.
func jobFailsByCode(r *row) {
	j := r.jobs()
	j.create(`exit 42`, jobOf(1, 1), jobRules(batchv1.PodFailurePolicyRule{
		Action:      batchv1.PodFailurePolicyActionFailJob,
		OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
	}))
	got := j.fail(batchv1.JobReasonPodFailurePolicy)
	j.counted(got, 0, 1, "", "-")
	if m := conditionOf(got, batchv1.JobFailed).Message; !strings.Contains(m, "failed with exit code 42 matching FailJob rule at index 0") {
		r.Fatalf("message %q", m)
	}
}

// APP-030: what others write into a job's status stays there.
func jobStatus(r *row) {
	j := r.jobs()
	made := j.create(jobStays)
	j.running(2)
	patched, err := j.client.Patch(r.ctx, "work", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"patched":"yes"}},"status":{"conditions":[{"type":"Patched","status":"True"}]}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	r.equal("annotation after the patch", patched.Annotations["patched"], "yes")
	if conditionOf(patched, "Patched") == nil {
		r.Fatalf("conditions after the patch: %s", asJSON(patched.Status.Conditions))
	}
	r.again("updating the status", func() error {
		o, err := j.client.Get(r.ctx, "work", metav1.GetOptions{})
		if err != nil {
			return err
		}
		o.Status.Conditions = append(o.Status.Conditions, batchv1.JobCondition{Type: "Updated", Status: corev1.ConditionTrue})
		_, err = j.client.UpdateStatus(r.ctx, o, metav1.UpdateOptions{})
		return err
	})
	got, err := r.dyn.Resource(batchv1.SchemeGroupVersion.WithResource("jobs")).Namespace(j.ns).Get(r.ctx, "work", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("UID of the status", got.GetUID(), made.UID)
	j.is("with both conditions", func(o *batchv1.Job) bool {
		return conditionOf(o, "Patched") != nil && conditionOf(o, "Updated") != nil
	})
}

// APP-031: each pod of an indexed job knows its index, and is named and hosted by it.
func jobIndexes(r *row) {
	j := r.jobs()
	j.create(`[ "$(hostname)" = "work-$JOB_COMPLETION_INDEX" ]`, jobByIndex)
	j.counted(j.complete(batchv1.JobReasonCompletionsReached), 4, 0, "0-3", "-")
	seen := map[string]bool{}
	for _, p := range j.pods() {
		i := p.Annotations[batchv1.JobCompletionIndexAnnotation]
		seen[i] = true
		r.equal("host name", p.Spec.Hostname, "work-"+i)
		r.equal("label", p.Labels[batchv1.JobCompletionIndexAnnotation], i)
		if !strings.HasPrefix(p.Name, "work-"+i+"-") {
			r.Fatalf("pod of index %s is %s", i, p.Name)
		}
	}
	r.equal("indexes", seen, map[string]bool{"0": true, "1": true, "2": true, "3": true})
}

// APP-032: a job at work is deleted, and its pods with it.
func jobDeleted(r *row) {
	j := r.jobs()
	j.create(jobStays)
	j.running(2)
	r.must(j.client.Delete(r.ctx, "work", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}), "deleting the job")
	r.settles("the job is gone", func() (bool, error) {
		_, err := j.client.Get(r.ctx, "work", metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
	r.settles("its pods are gone", func() (bool, error) { return len(j.pods()) == 0, nil })
}

// APP-033: every index is run, and tried again as often as it may be, though some fail.
func jobBackoffPerIndex(r *row) {
	j := r.jobs()
	j.create(jobOddOnly, jobByIndex, func(o *batchv1.Job) { o.Spec.BackoffLimitPerIndex = ptr.To[int32](1) })
	j.counted(j.fail(batchv1.JobReasonFailedIndexes), 2, 4, "1,3", "0,2")
}

// APP-034: a job is made suspended, patched, resumed, found among all, and deleted by its label when it is complete.
func jobLife(r *row) {
	j := r.jobs()
	label := r.unique()
	w := r.follow(j.client.Watch(r.ctx, labelled(label)))
	j.create(jobSucceeds, func(o *batchv1.Job) {
		o.Labels = map[string]string{rowLabel: label}
		o.Spec.Suspend = ptr.To(true)
	})
	w.next(watch.Added, "work", named("work"))
	patched, err := j.client.Patch(r.ctx, "work", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"yes"}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("label after the patch", patched.Labels["patched"], "yes")
	w.next(watch.Modified, "work patched", func(o metav1.Object) bool { return o.GetLabels()["patched"] == "yes" })
	j.is("suspended", func(o *batchv1.Job) bool { return conditionOf(o, batchv1.JobSuspended) != nil })
	r.equal("pods while it is suspended", len(j.pods()), 0)
	r.again("resuming it", func() error {
		o, err := j.client.Get(r.ctx, "work", metav1.GetOptions{})
		if err != nil {
			return err
		}
		o.Spec.Suspend = ptr.To(false)
		o.Annotations = map[string]string{"updated": "yes"}
		_, err = j.client.Update(r.ctx, o, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, "work updated", func(o metav1.Object) bool { return o.GetAnnotations()["updated"] == "yes" })
	list, err := r.kube.BatchV1().Jobs(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("jobs in all namespaces", len(list.Items), 1)
	j.counted(j.complete(batchv1.JobReasonCompletionsReached), 4, 0, "", "-")
	r.must(j.client.DeleteCollection(r.ctx, metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}, labelled(label)), "deleting the collection")
	w.next(watch.Deleted, "work", named("work"))
	list, err = j.client.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("jobs left", len(list.Items), 0)
}

// APP-035: an index fails at once by a rule, others only when they have failed too often.
func jobFailsIndex(r *row) {
	j := r.jobs()
	j.create(`case $JOB_COMPLETION_INDEX in 0) exit 42;; 1) exit 1;; esac`, jobByIndex, jobOf(3, 2), func(o *batchv1.Job) { o.Spec.BackoffLimitPerIndex = ptr.To[int32](1) },
		jobRules(batchv1.PodFailurePolicyRule{
			Action:      batchv1.PodFailurePolicyActionFailIndex,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
		}))
	j.counted(j.fail(batchv1.JobReasonFailedIndexes), 1, 3, "2", "0,1")
}

// APP-036: containers that fail once are started again in their pods, and the job completes.
func jobRestartsLocally(r *row) {
	j := r.jobs()
	j.create(`[ -e /state/been ] && exit 0; touch /state/been; exit 1`, func(o *batchv1.Job) {
		s := &o.Spec.Template.Spec
		s.RestartPolicy = corev1.RestartPolicyOnFailure
		s.Volumes = []corev1.Volume{{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "state", MountPath: "/state"}}
	})
	j.counted(j.complete(batchv1.JobReasonCompletionsReached), 4, 0, "", "-")
}

// APP-037: a job ends when more indexes have failed than may.
func jobTooManyIndexes(r *row) {
	j := r.jobs()
	j.create(jobOddOnly, jobByIndex, jobOf(10, 1), func(o *batchv1.Job) {
		o.Spec.BackoffLimitPerIndex, o.Spec.MaxFailedIndexes = ptr.To[int32](0), ptr.To[int32](1)
	})
	j.counted(j.fail(batchv1.JobReasonMaxFailedIndexesExceeded), 1, 2, "1", "0,2")
}

func jobEnough(rule batchv1.SuccessPolicyRule) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{rule}}
	}
}

// APP-038: a rule that asks for all indexes is met by all.
func jobAllIndexes(r *row) {
	j := r.jobs()
	j.create(jobSucceeds, jobByIndex, jobOf(2, 2), jobEnough(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("0-1"), SucceededCount: ptr.To[int32](2)}))
	j.counted(j.complete(batchv1.JobReasonSuccessPolicy), 2, 0, "0,1", "-")
}

// APP-039: a number of successes is enough, and the other pods are ended.
func jobEnoughByCount(r *row) {
	j := r.jobs()
	j.create(jobZeroOnly, jobByIndex, jobOf(5, 2), jobEnough(batchv1.SuccessPolicyRule{SucceededCount: ptr.To[int32](1)}))
	j.counted(j.complete(batchv1.JobReasonSuccessPolicy), 1, 0, "0", "-")
}

// APP-040: certain successes are enough, and the other pods are ended.
func jobEnoughByIndex(r *row) {
	j := r.jobs()
	j.create(jobZeroOnly, jobByIndex, jobOf(5, 2), jobEnough(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("0")}))
	j.counted(j.complete(batchv1.JobReasonSuccessPolicy), 1, 0, "0", "-")
}
