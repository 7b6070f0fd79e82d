package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// exitPod reports a pod's container as ended with a code, as its kubelet does.
func (w *world) exitPod(ctx context.Context, p *corev1.Pod, code int32) {
	p.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		p.Status.Phase = corev1.PodFailed
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, FinishedAt: metav1.Now()}}}}
	w.kube.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}) // what fails is played again
}

func (w *world) exiting(code func(*corev1.Pod) int32) func(context.Context, *corev1.Pod) {
	return func(ctx context.Context, p *corev1.Pod) { w.exitPod(ctx, p, code(p)) }
}

// makeJob creates one of an image.
func (w *world) makeJob(ns, image string, completions, parallelism int32, change ...func(*batchv1.JobSpec)) *batchv1.Job {
	w.Helper()
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{GenerateName: image + "-"},
		Spec: batchv1.JobSpec{
			Completions: &completions, Parallelism: &parallelism,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: image}}, TerminationGracePeriodSeconds: ptr.To[int64](0),
			}},
		},
	}
	for _, c := range change {
		c(&j.Spec)
	}
	return must(w.kube.BatchV1().Jobs(ns).Create(w.Context(), j, metav1.CreateOptions{}))(w)
}

func byIndex(s *batchv1.JobSpec) { s.CompletionMode = ptr.To(batchv1.IndexedCompletion) }

// jobUntil waits until a job is as ok wants it.
func (w *world) jobUntil(j *batchv1.Job, what string, ok func(*batchv1.Job) bool) (got *batchv1.Job) {
	w.Helper()
	w.until(j.Name+" "+what, func() (err error) {
		if got, err = w.kube.BatchV1().Jobs(j.Namespace).Get(w.Context(), j.Name, metav1.GetOptions{}); err == nil && !ok(got) {
			err = fmt.Errorf("its status is %+v", got.Status)
		}
		return err
	})
	return got
}

func jobCondition(j *batchv1.Job, what batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == what && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// jobCompletes waits until a job is complete, and jobFails until it has failed, for a reason; both check what every end has in common.
func (w *world) jobCompletes(j *batchv1.Job, reason string) *batchv1.Job {
	w.Helper()
	return w.jobEnds(j, batchv1.JobSuccessCriteriaMet, batchv1.JobComplete, reason)
}

func (w *world) jobFails(j *batchv1.Job, reason string) *batchv1.Job {
	w.Helper()
	return w.jobEnds(j, batchv1.JobFailureTarget, batchv1.JobFailed, reason)
}

func (w *world) jobEnds(j *batchv1.Job, interim, final batchv1.JobConditionType, reason string) *batchv1.Job {
	w.Helper()
	got := w.jobUntil(j, "to end "+string(final), func(j *batchv1.Job) bool { return jobCondition(j, final) != nil })
	a, b := jobCondition(got, interim), jobCondition(got, final)
	if a == nil || a.Reason != reason || b.Reason != reason || a.Message != b.Message {
		w.Errorf("conditions %+v, want both with reason %s", got.Status.Conditions, reason)
	}
	s := got.Status
	if s.Active != 0 || ptr.Deref(s.Terminating, -1) != 0 || ptr.Deref(s.Ready, -1) != 0 || s.StartTime == nil || (s.CompletionTime != nil) != (final == batchv1.JobComplete) ||
		s.UncountedTerminatedPods == nil || len(s.UncountedTerminatedPods.Failed)+len(s.UncountedTerminatedPods.Succeeded) > 0 {
		w.Errorf("status %+v", s)
	}
	for _, p := range w.jobPods(got) {
		if slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) {
			w.Errorf("pod %s keeps its finalizer", p.Name)
		}
	}
	return got
}

func (w *world) jobPods(j *batchv1.Job) []corev1.Pod {
	w.Helper()
	return must(w.kube.CoreV1().Pods(j.Namespace).List(w.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + j.Name}))(w).Items
}

// jobTells waits for an event about an object.
func (w *world) jobTells(ns, name, reason, message string) {
	w.Helper()
	w.until(fmt.Sprintf("event %s about %s", reason, name), func() error {
		list, err := w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=" + reason})
		if err == nil && !slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return strings.HasPrefix(e.Message, message) }) {
			err = fmt.Errorf("%d such events, none says %q", len(list.Items), message)
		}
		return err
	})
}

func jobCounts(w *world, j *batchv1.Job, succeeded, failed int32) {
	w.Helper()
	if j.Status.Succeeded != succeeded || j.Status.Failed != failed {
		w.Errorf("%s: succeeded %d, failed %d; want %d, %d", j.Name, j.Status.Succeeded, j.Status.Failed, succeeded, failed)
	}
}
