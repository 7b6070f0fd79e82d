package job

import (
	"fmt"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/controller-manager/podset"
)

const (
	indexVariable = "JOB_COMPLETION_INDEX"
	longestBase   = 58 // of a generated name; the API server adds five characters
)

// newPod makes a pod for a slot: the template, the finalizer, and for an index its number in name, host name, label, annotation
// and environment.
func newPod(j *batchv1.Job, s slot) *corev1.Pod {
	p := podset.FromTemplate(&j.Spec.Template, j, kind)
	if !guarded(p) {
		p.Finalizers = append(p.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if s.index == noIndex {
		return p
	}
	number := strconv.Itoa(s.index)
	suffix := "-" + number + "-"
	p.GenerateName = j.Name[:min(len(j.Name), longestBase-len(suffix))] + suffix
	p.Spec.Hostname = fmt.Sprintf("%s-%d", j.Name, s.index)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Labels[batchv1.JobCompletionIndexAnnotation] = number
	p.Annotations[batchv1.JobCompletionIndexAnnotation] = number
	if perIndex(j) {
		p.Annotations[failureCount] = strconv.Itoa(s.failures)
		if s.ignored > 0 {
			p.Annotations[ignoredCount] = strconv.Itoa(s.ignored)
		}
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			tellIndex(&list[i])
		}
	}
	return p
}

// tellIndex lets a container read its pod's index, unless it says itself what the variable holds.
func tellIndex(c *corev1.Container) {
	if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"},
	}})
}
