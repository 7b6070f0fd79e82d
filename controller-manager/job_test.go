package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/pod"
)

// TestJobs runs Jobs over a real API server; the player ends their pods as their images say.
func TestJobs(t *testing.T) {
	w := newWorld(t)
	w.player.script("succeed", w.exiting(func(*corev1.Pod) int32 { return 0 }))
	w.player.script("exit-42", w.exiting(func(*corev1.Pod) int32 { return 42 }))
	w.player.script("even", w.exiting(func(p *corev1.Pod) int32 { // pods of even indexes fail
		if i := p.Labels[batchv1.JobCompletionIndexAnnotation]; i == "0" || i == "2" {
			return 1
		}
		return 0
	}))
	w.player.script("first", func(ctx context.Context, p *corev1.Pod) { // the first index succeeds, the others go on
		if p.Labels[batchv1.JobCompletionIndexAnnotation] == "0" {
			w.exitPod(ctx, p, 0)
		}
	})
	w.sub("job-plain", jobPlain)
	w.sub("job-indexed", jobIndexed)
	w.sub("job-limits", jobLimits)
	w.sub("job-policies", jobPolicies)
	w.sub("job-per-index", jobPerIndex)
	w.sub("job-success", jobSuccess)
	w.sub("job-suspend", jobSuspend)
	w.sub("job-deadline", jobDeadline)
	w.sub("job-replacing", jobReplacing)
	w.sub("job-owning", jobOwning)
	w.sub("job-deleting", jobDeleting)
	w.sub("job-external", jobExternal)
	w.sub("job-elastic", jobElastic)
	w.sub("job-ttl", jobTTL)
	w.sub("job-many", jobMany)
	w.sub("job-quiet", jobQuiet)
}

func jobPlain(w *world, ns string) {
	j := w.jobCompletes(w.makeJob(ns, "succeed", 5, 2), batchv1.JobReasonCompletionsReached)
	jobCounts(w, j, 5, 0)
	if pods := w.jobPods(j); len(pods) != 5 || !strings.HasPrefix(pods[0].Name, j.Name+"-") || !metav1.IsControlledBy(&pods[0], j) {
		w.Errorf("%d pods, the first %+v", len(pods), pods[0].ObjectMeta)
	}
	w.jobTells(ns, j.Name, "SuccessfulCreate", "Created pod: "+j.Name+"-")
	w.jobTells(ns, j.Name, "Completed", "Job completed")

	queue := w.makeJob(ns, "succeed", 1, 3, func(s *batchv1.JobSpec) { s.Completions = nil })
	jobCounts(w, w.jobCompletes(queue, batchv1.JobReasonCompletionsReached), 3, 0)
	none := w.makeJob(ns, "succeed", 0, 1)
	jobCounts(w, w.jobCompletes(none, batchv1.JobReasonCompletionsReached), 0, 0)

	resting := w.makeJob(ns, "succeed", 2, 0)
	w.jobUntil(resting, "to be looked at", func(j *batchv1.Job) bool { return j.Status.StartTime != nil })
	must(w.kube.BatchV1().Jobs(ns).Patch(w.Context(), resting.Name, types.MergePatchType, []byte(`{"spec":{"parallelism":2}}`), metav1.PatchOptions{}))(w)
	jobCounts(w, w.jobCompletes(resting, batchv1.JobReasonCompletionsReached), 2, 0)
}

func jobIndexed(w *world, ns string) {
	j := w.jobCompletes(w.makeJob(ns, "succeed", 4, 2, byIndex), batchv1.JobReasonCompletionsReached)
	if jobCounts(w, j, 4, 0); j.Status.CompletedIndexes != "0-3" {
		w.Errorf("completed %q", j.Status.CompletedIndexes)
	}
	seen := map[string]bool{}
	for _, p := range w.jobPods(j) {
		i := p.Annotations[batchv1.JobCompletionIndexAnnotation]
		seen[i] = true
		if p.Labels[batchv1.JobCompletionIndexAnnotation] != i || p.Spec.Hostname != j.Name+"-"+i || !strings.HasPrefix(p.Name, j.Name+"-"+i+"-") {
			w.Errorf("pod %s of index %s: labels %v, host %s", p.Name, i, p.Labels, p.Spec.Hostname)
		}
		if env := p.Spec.Containers[0].Env; len(env) != 1 || env[0].Name != "JOB_COMPLETION_INDEX" || env[0].ValueFrom == nil {
			w.Errorf("environment %+v", env)
		}
	}
	if len(seen) != 4 {
		w.Errorf("indexes %v", seen)
	}
}

func jobLimits(w *world, ns string) {
	j := w.jobFails(w.makeJob(ns, "exit-42", 3, 1, func(s *batchv1.JobSpec) { s.BackoffLimit = ptr.To[int32](0) }), batchv1.JobReasonBackoffLimitExceeded)
	jobCounts(w, j, 0, 1)
	w.jobTells(ns, j.Name, "BackoffLimitExceeded", "Job has reached the specified backoff limit")

	// A container that is restarted in place.
	w.player.script("restarting", func(ctx context.Context, p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		w.kube.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
	})
	j = w.jobFails(w.makeJob(ns, "restarting", 1, 1, func(s *batchv1.JobSpec) {
		s.BackoffLimit, s.Template.Spec.RestartPolicy = ptr.To[int32](2), corev1.RestartPolicyOnFailure
	}), batchv1.JobReasonBackoffLimitExceeded)
	w.jobTells(ns, j.Name, "SuccessfulDelete", "Deleted pod: ")
	w.until("its pod gone", func() error {
		if n := len(w.jobPods(j)); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
}

func jobPolicies(w *world, ns string) {
	policy := func(rules ...batchv1.PodFailurePolicyRule) func(*batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) { s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: rules} }
	}
	in := func(codes ...int32) *batchv1.PodFailurePolicyOnExitCodesRequirement {
		return &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: codes}
	}
	j := w.jobFails(w.makeJob(ns, "exit-42", 2, 1, policy(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: in(42)})),
		batchv1.JobReasonPodFailurePolicy)
	jobCounts(w, j, 0, 1)
	if m := jobCondition(j, batchv1.JobFailed).Message; !strings.HasPrefix(m, "Container c for pod "+ns+"/"+j.Name) || !strings.HasSuffix(m, "failed with exit code 42 matching FailJob rule at index 0") {
		w.Errorf("message %q", m)
	}

	// An evicted pod is replaced and not counted.
	var evicted atomic.Bool
	w.player.script("evicted", func(ctx context.Context, p *corev1.Pod) {
		if evicted.Load() {
			w.exitPod(ctx, p, 0)
			return
		}
		evicted.Store(true)
		pod.SetCondition(&p.Status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"}, time.Now())
		p.Status.Phase = corev1.PodFailed
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 143, FinishedAt: metav1.NewTime(time.Now().Add(-time.Hour))}}}} // so that its successor need not wait
		if _, err := w.kube.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
			evicted.Store(false)
		}
	})
	j = w.makeJob(ns, "evicted", 1, 1, policy(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget}}}), func(s *batchv1.JobSpec) { s.BackoffLimit = ptr.To[int32](0) })
	jobCounts(w, w.jobCompletes(j, batchv1.JobReasonCompletionsReached), 1, 0)
	if n := len(w.jobPods(j)); n != 2 {
		w.Errorf("%d pods, want 2", n)
	}
}

func jobPerIndex(w *world, ns string) {
	limit := func(most *int32) func(*batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) {
			s.BackoffLimitPerIndex, s.MaxFailedIndexes = ptr.To[int32](0), most
		}
	}
	j := w.jobFails(w.makeJob(ns, "even", 4, 2, byIndex, limit(nil)), batchv1.JobReasonFailedIndexes)
	if jobCounts(w, j, 2, 2); j.Status.CompletedIndexes != "1,3" || ptr.Deref(j.Status.FailedIndexes, "") != "0,2" {
		w.Errorf("completed %q, failed %v", j.Status.CompletedIndexes, j.Status.FailedIndexes)
	}
	j = w.jobFails(w.makeJob(ns, "even", 9, 1, byIndex, limit(ptr.To[int32](1))), batchv1.JobReasonMaxFailedIndexesExceeded)
	if jobCounts(w, j, 1, 2); ptr.Deref(j.Status.FailedIndexes, "") != "0,2" {
		w.Errorf("failed %v", j.Status.FailedIndexes)
	}

	// An index that may be tried again is, after a pause, and its pods carry the count. The pod that failed waits for that.
	var failed atomic.Bool
	w.player.script("once", func(ctx context.Context, p *corev1.Pod) {
		if failed.Swap(true) && p.Annotations[batchv1.JobIndexFailureCountAnnotation] == "1" {
			w.exitPod(ctx, p, 0)
		} else {
			w.exitPod(ctx, p, 7)
		}
	})
	j = w.jobCompletes(w.makeJob(ns, "once", 1, 1, byIndex, func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex = ptr.To[int32](2) }), batchv1.JobReasonCompletionsReached)
	jobCounts(w, j, 1, 1)
}

func jobSuccess(w *world, ns string) {
	for name, rule := range map[string]batchv1.SuccessPolicyRule{
		"count": {SucceededCount: ptr.To[int32](1)}, "indexes": {SucceededIndexes: ptr.To("0")},
	} {
		j := w.makeJob(ns, "first", 3, 3, byIndex, func(s *batchv1.JobSpec) {
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{rule}}
		})
		j = w.jobCompletes(j, batchv1.JobReasonSuccessPolicy)
		if jobCounts(w, j, 1, 0); j.Status.CompletedIndexes != "0" || jobCondition(j, batchv1.JobComplete).Message != "Matched rules at index 0" {
			w.Errorf("%s: status %+v", name, j.Status)
		}
	}
}

func jobSuspend(w *world, ns string) {
	jobs := w.kube.BatchV1().Jobs(ns)
	suspend := func(j *batchv1.Job, is bool) {
		w.Helper()
		must(jobs.Patch(w.Context(), j.Name, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"suspend":%v}}`, is), metav1.PatchOptions{}))(w)
	}
	j := w.makeJob(ns, "steady", 2, 2, func(s *batchv1.JobSpec) { s.Suspend = ptr.To(true) })
	got := w.jobUntil(j, "to be suspended", func(j *batchv1.Job) bool { return jobCondition(j, batchv1.JobSuspended) != nil })
	if c := jobCondition(got, batchv1.JobSuspended); c.Reason != "JobSuspended" || c.Message != "Job suspended" || got.Status.StartTime != nil || len(w.jobPods(j)) > 0 {
		w.Errorf("status %+v", got.Status)
	}
	w.jobTells(ns, j.Name, "Suspended", "Job suspended")
	suspend(j, false)
	ready := func(j *batchv1.Job) bool {
		return j.Status.Active == 2 && *j.Status.Ready == 2 && j.Status.StartTime != nil && jobCondition(j, batchv1.JobSuspended) == nil
	}
	w.jobUntil(j, "to run", ready)
	w.jobTells(ns, j.Name, "Resumed", "Job resumed")
	suspend(j, true)
	got = w.jobUntil(j, "to stop", func(j *batchv1.Job) bool {
		return j.Status.Active == 0 && *j.Status.Terminating == 0 && j.Status.StartTime == nil && jobCondition(j, batchv1.JobSuspended) != nil
	})
	jobCounts(w, got, 0, 0)
	w.until("its pods gone", func() error {
		if n := len(w.jobPods(j)); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	suspend(j, false)
	jobCounts(w, w.jobUntil(j, "to run again", ready), 0, 0)
}

func jobDeadline(w *world, ns string) {
	j := w.jobFails(w.makeJob(ns, "steady", 1, 1, func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = ptr.To[int64](1) }), batchv1.JobReasonDeadlineExceeded)
	jobCounts(w, j, 0, 1)
	w.jobTells(ns, j.Name, "DeadlineExceeded", "Job was active longer than specified deadline")
}

// jobReplacing deletes pods that take their time: a finalizer of their own stands for it.
func jobReplacing(w *world, ns string) {
	slow := func(s *batchv1.JobSpec) { s.Template.Finalizers = []string{"example.com/slow"} }
	pods := w.kube.CoreV1().Pods(ns)
	let := func(p *corev1.Pod) { // it end
		w.Helper()
		must(pods.Patch(w.Context(), p.Name, types.StrategicMergePatchType, []byte(`{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.com/slow"]}}`), metav1.PatchOptions{}))(w)
	}
	running := func(j *batchv1.Job) bool { return j.Status.Active == 1 && *j.Status.Ready == 1 }

	j := w.makeJob(ns, "steady", 1, 1, slow)
	w.jobUntil(j, "to run", running)
	first := w.jobPods(j)[0]
	if err := pods.Delete(w.Context(), first.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		w.Fatal(err)
	}
	w.jobUntil(j, "to count the pod", func(j *batchv1.Job) bool { return j.Status.Failed == 1 && *j.Status.Terminating == 1 })
	let(&first)
	w.jobUntil(j, "to go on", func(j *batchv1.Job) bool { return *j.Status.Terminating == 0 && running(j) })

	j = w.makeJob(ns, "steady", 1, 1, slow, func(s *batchv1.JobSpec) {
		s.PodReplacementPolicy, s.BackoffLimit = ptr.To(batchv1.Failed), ptr.To[int32](0)
	})
	w.jobUntil(j, "to run", running)
	first = w.jobPods(j)[0]
	if err := pods.Delete(w.Context(), first.Name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	got := w.jobUntil(j, "to wait for the pod", func(j *batchv1.Job) bool { return j.Status.Active == 0 && *j.Status.Terminating == 1 })
	jobCounts(w, got, 0, 0)
	if n := len(w.jobPods(j)); n != 1 {
		w.Errorf("%d pods, want the one that ends", n)
	}
	last := must(pods.Get(w.Context(), first.Name, metav1.GetOptions{}))(w)
	w.exitPod(w.Context(), last, 1)
	jobCounts(w, w.jobFails(j, batchv1.JobReasonBackoffLimitExceeded), 0, 1)
	let(&first)
}

func jobOwning(w *world, ns string) {
	pods := w.kube.CoreV1().Pods(ns)
	j := w.makeJob(ns, "steady", 2, 2)
	w.jobUntil(j, "to run", func(j *batchv1.Job) bool { return j.Status.Active == 2 && *j.Status.Ready == 2 })
	list := w.jobPods(j)
	must(pods.Patch(w.Context(), list[0].Name, types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`), metav1.PatchOptions{}))(w)
	w.until("the orphan adopted", func() error {
		p, err := pods.Get(w.Context(), list[0].Name, metav1.GetOptions{})
		if err == nil && !(metav1.IsControlledBy(p, j) && slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer)) {
			err = fmt.Errorf("it is %+v", p.ObjectMeta)
		}
		return err
	})
	must(pods.Patch(w.Context(), list[0].Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(w)
	w.until("its finalizer given back", func() error {
		p, err := pods.Get(w.Context(), list[0].Name, metav1.GetOptions{})
		if err == nil && len(p.Finalizers) == 0 {
			err = fmt.Errorf("it is %+v", p.ObjectMeta)
		}
		return err
	})
	must(pods.Patch(w.Context(), list[1].Name, types.MergePatchType, []byte(`{"metadata":{"labels":null}}`), metav1.PatchOptions{}))(w)
	w.until("the other released", func() error {
		p, err := pods.Get(w.Context(), list[1].Name, metav1.GetOptions{})
		if err == nil && (metav1.GetControllerOf(p) != nil || len(p.Finalizers) > 0) {
			err = fmt.Errorf("it is %+v", p.ObjectMeta)
		}
		return err
	})
	got := w.jobUntil(j, "to replace it", func(j *batchv1.Job) bool { return j.Status.Active == 2 && *j.Status.Ready == 2 })
	jobCounts(w, got, 0, 0)
}

func jobDeleting(w *world, ns string) {
	jobs, pods := w.kube.BatchV1().Jobs(ns), w.kube.CoreV1().Pods(ns)
	for _, how := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		j := w.makeJob(ns, "steady", 3, 3)
		w.jobUntil(j, "to run", func(j *batchv1.Job) bool { return j.Status.Active == 3 && *j.Status.Ready == 3 })
		if err := jobs.Delete(w.Context(), j.Name, metav1.DeleteOptions{PropagationPolicy: &how}); err != nil {
			w.Fatal(err)
		}
		w.until("the job gone: "+string(how), func() error {
			if _, err := jobs.Get(w.Context(), j.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("reading it: %v", err)
			}
			left := w.jobPods(j)
			for _, p := range left {
				if how == metav1.DeletePropagationOrphan && len(p.OwnerReferences)+len(p.Finalizers) > 0 {
					return fmt.Errorf("pod %s has %v, %v", p.Name, p.OwnerReferences, p.Finalizers)
				}
			}
			if want := map[bool]int{true: 3}[how == metav1.DeletePropagationOrphan]; len(left) != want {
				return fmt.Errorf("%d pods are left", len(left))
			}
			return nil
		})
	}
	// A pod with the finalizer that nobody controls.
	stray := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "stray", Finalizers: []string{batchv1.JobTrackingFinalizer}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "steady"}}},
	}
	must(pods.Create(w.Context(), stray, metav1.CreateOptions{}))(w)
	w.until("the stray freed", func() error {
		p, err := pods.Get(w.Context(), "stray", metav1.GetOptions{})
		if err == nil && len(p.Finalizers) > 0 {
			err = fmt.Errorf("it has %v", p.Finalizers)
		}
		return err
	})
}

func jobExternal(w *world, ns string) {
	j := w.makeJob(ns, "succeed", 1, 1, func(s *batchv1.JobSpec) { s.ManagedBy = ptr.To("example.com/batch") })
	ours := w.makeJob(ns, "succeed", 1, 1, func(s *batchv1.JobSpec) { s.ManagedBy = ptr.To(batchv1.JobControllerName) })
	w.jobCompletes(ours, batchv1.JobReasonCompletionsReached)
	got := must(w.kube.BatchV1().Jobs(ns).Get(w.Context(), j.Name, metav1.GetOptions{}))(w)
	if got.ResourceVersion != j.ResourceVersion || len(w.jobPods(j)) > 0 {
		w.Errorf("another's job was touched: %+v", got.Status)
	}
}

func jobElastic(w *world, ns string) {
	j := w.makeJob(ns, "first", 3, 3, byIndex)
	w.jobUntil(j, "to have one", func(j *batchv1.Job) bool { return j.Status.CompletedIndexes == "0" && j.Status.Active == 2 })
	must(w.kube.BatchV1().Jobs(ns).Patch(w.Context(), j.Name, types.MergePatchType, []byte(`{"spec":{"completions":2,"parallelism":2}}`), metav1.PatchOptions{}))(w)
	got := w.jobUntil(j, "to shrink", func(j *batchv1.Job) bool { return j.Status.Active == 1 && *j.Status.Terminating == 0 })
	jobCounts(w, got, 1, 0)
	must(w.kube.BatchV1().Jobs(ns).Patch(w.Context(), j.Name, types.MergePatchType, []byte(`{"spec":{"completions":1,"parallelism":1}}`), metav1.PatchOptions{}))(w)
	jobCounts(w, w.jobCompletes(j, batchv1.JobReasonCompletionsReached), 1, 0)
}

func jobTTL(w *world, ns string) {
	kept := w.jobCompletes(w.makeJob(ns, "succeed", 1, 1, func(s *batchv1.JobSpec) { s.TTLSecondsAfterFinished = ptr.To[int32](1000) }), batchv1.JobReasonCompletionsReached)
	j := w.makeJob(ns, "succeed", 1, 1, func(s *batchv1.JobSpec) { s.TTLSecondsAfterFinished = ptr.To[int32](1) })
	w.until("the finished job gone", func() error {
		if _, err := w.kube.BatchV1().Jobs(ns).Get(w.Context(), j.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("reading it: %v", err)
		}
		if n := len(w.jobPods(j)); n > 0 {
			return fmt.Errorf("%d pods outlive it", n)
		}
		return nil
	})
	must(w.kube.BatchV1().Jobs(ns).Patch(w.Context(), kept.Name, types.MergePatchType, []byte(`{"spec":{"ttlSecondsAfterFinished":0}}`), metav1.PatchOptions{}))(w)
	w.until("the other gone when its time is cut", func() error {
		if _, err := w.kube.BatchV1().Jobs(ns).Get(w.Context(), kept.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("reading it: %v", err)
		}
		return nil
	})
}

// jobMany has 500 pods at once, which are on their node from the start, and end side by side.
func jobMany(w *world, ns string) {
	begin := time.Now()
	var over atomic.Bool
	w.player.script("held", func(ctx context.Context, p *corev1.Pod) {
		if over.Load() { // those that the test could not end
			w.exitPod(ctx, p, 0)
		}
	})
	j := w.makeJob(ns, "held", 500, 500, byIndex, func(s *batchv1.JobSpec) { s.Template.Spec.NodeName = "steady" })
	var pods []corev1.Pod
	w.until("500 pods made", func() error {
		if pods = w.jobPods(j); len(pods) != 500 {
			return fmt.Errorf("%d are", len(pods))
		}
		return nil
	})
	w.Logf("500 pods made in %v", time.Since(begin))
	var wg sync.WaitGroup
	for part := range slices.Chunk(pods, 32) {
		wg.Go(func() {
			for i := range part {
				w.exitPod(w.Context(), &part[i], 0)
			}
		})
	}
	wg.Wait()
	over.Store(true)
	w.Logf("ended after %v", time.Since(begin))
	j = w.jobCompletes(j, batchv1.JobReasonCompletionsReached)
	if jobCounts(w, j, 500, 0); j.Status.CompletedIndexes != "0-499" {
		w.Errorf("completed %q", j.Status.CompletedIndexes)
	}
	w.Logf("and counted after %v", time.Since(begin))
}

// jobQuiet looks for writes to jobs and their pods while nothing happens.
func jobQuiet(w *world, ns string) {
	j := w.makeJob(ns, "steady", 3, 3)
	w.jobUntil(j, "to run", func(j *batchv1.Job) bool { return j.Status.Active == 3 && *j.Status.Ready == 3 })
	w.jobCompletes(w.makeJob(ns, "succeed", 1, 1), batchv1.JobReasonCompletionsReached)
	mine := func() (n int) {
		w.writeLog.Range(func(k, _ any) bool {
			if strings.Contains(k.(string), "/namespaces/"+ns+"/") {
				n++
			}
			return true
		})
		return n
	}
	time.Sleep(time.Second) // what still comes
	before := mine()
	time.Sleep(3 * time.Second)
	if after := mine(); after != before {
		w.Errorf("%d writes while nothing happened", after-before)
	}
}
