package job

import (
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/podset"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

type change = func(*batchv1.Job)

// job is one as the API server completes it, changed.
func job(changes ...change) *batchv1.Job {
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sum", UID: "job"},
		Spec: batchv1.JobSpec{
			Completions: ptr.To[int32](1), Parallelism: ptr.To[int32](1), BackoffLimit: ptr.To[int32](6),
			CompletionMode: ptr.To(batchv1.NonIndexedCompletion), Suspend: ptr.To(false), PodReplacementPolicy: ptr.To(batchv1.TerminatingOrFailed),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c"}}}},
		},
		Status: batchv1.JobStatus{StartTime: &metav1.Time{Time: noon.Add(-time.Hour)}, UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{}},
	}
	for _, c := range changes {
		c(j)
	}
	return j
}

func sized(completions, parallelism int32) change {
	return func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = &completions, &parallelism }
}

func queue(parallelism int32) change {
	return func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = nil, &parallelism }
}

func byIndex(j *batchv1.Job)    { j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion) }
func patient(j *batchv1.Job)    { j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed) }
func resting(j *batchv1.Job)    { j.Spec.Suspend = ptr.To(true) }
func deletedJob(j *batchv1.Job) { j.DeletionTimestamp = &metav1.Time{Time: noon} }

func limited(n int32) change { return func(j *batchv1.Job) { j.Spec.BackoffLimit = &n } }

func limitedPerIndex(n int32, most *int32) change {
	return func(j *batchv1.Job) {
		byIndex(j)
		j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes = &n, most
	}
}

func counted(succeeded, failed int32) change {
	return func(j *batchv1.Job) { j.Status.Succeeded, j.Status.Failed = succeeded, failed }
}

func indexesAre(completed, failed string) change {
	return func(j *batchv1.Job) { j.Status.CompletedIndexes, j.Status.FailedIndexes = completed, &failed }
}

func during(seconds int64) change {
	return func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = &seconds }
}

func ruled(rules ...batchv1.PodFailurePolicyRule) change {
	return func(j *batchv1.Job) {
		j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: rules}
		patient(j)
	}
}

func being(what batchv1.JobConditionType, reason string) change {
	return func(j *batchv1.Job) { setCondition(&j.Status, what, corev1.ConditionTrue, reason, "as was said", noon) }
}

// onCode is a rule about exit codes.
func onCode(action batchv1.PodFailurePolicyAction, op batchv1.PodFailurePolicyOnExitCodesOperator, codes ...int32) batchv1.PodFailurePolicyRule {
	return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: op, Values: codes}}
}

type trait = func(*corev1.Pod)

// one is a pod of the job, pending and with the finalizer, changed.
func one(name string, traits ...trait) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(name), Finalizers: []string{batchv1.JobTrackingFinalizer}, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job(), kind)}, CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour)),
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, t := range traits {
		t(p)
	}
	return p
}

func stopped(phase corev1.PodPhase, code int32, ago time.Duration) trait {
	return func(p *corev1.Pod) {
		p.Status.Phase = phase
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, FinishedAt: metav1.NewTime(noon.Add(-ago))}}}}
	}
}

func succeeded(p *corev1.Pod)  { stopped(corev1.PodSucceeded, 0, time.Hour)(p) }
func failed(p *corev1.Pod)     { stopped(corev1.PodFailed, 1, time.Hour)(p) }
func justFailed(p *corev1.Pod) { stopped(corev1.PodFailed, 1, time.Second)(p) }
func leaving(p *corev1.Pod)    { p.DeletionTimestamp = &metav1.Time{Time: noon.Add(-time.Hour)} }
func free(p *corev1.Pod)       { p.Finalizers = nil }
func ready(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

func restarted(n int32) trait {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: n}}
	}
}

func index(i int) trait {
	return func(p *corev1.Pod) { p.Annotations[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(i) }
}

func before(failures, ignored int) trait {
	return func(p *corev1.Pod) {
		p.Annotations[failureCount], p.Annotations[ignoredCount] = strconv.Itoa(failures), strconv.Itoa(ignored)
	}
}

func several(n int, traits ...trait) (all []*corev1.Pod) {
	for i := range n {
		all = append(all, one(fmt.Sprintf("p%03d", i), traits...))
	}
	return all
}

// seen is a view of a job and its pods at noon.
func seen(j *batchv1.Job, pods []*corev1.Pod, creating int) *view {
	v := &view{job: j, pods: pods, unseen: podset.Unseen{Creating: creating, Deleting: map[types.UID]bool{}}, stripped: map[types.UID]bool{}, row: &row{}, now: noon}
	v.row.look(pods, v.failed)
	return v
}
