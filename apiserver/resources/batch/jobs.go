package batch

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// Jobs run pods until enough of them have succeeded.
var Jobs = registry.Define(registry.Kind[*batchv1.Job]{
	Group: "batch", Version: "v1", Kind: "Job", Plural: "jobs", Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true,
	Default:        defaultJob,
	BeforeCreate:   prepareJob,
	BeforeUpdate:   func(j, old *batchv1.Job) { j.Spec.Scheduling = old.Spec.Scheduling },
	Validate:       validateJob,
	ValidateUpdate: validateJobUpdate,
	ValidateStatus: validateJobStatus,
	Warn:           warnJob,
	Orphans:        true, OrphansWarning: "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set " +
		"propagationPolicy=Orphan to suppress this warning",
	FieldNames: []string{"status.successful"},
	Fields: func(j *batchv1.Job) fields.Set {
		return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
	},
	Columns: append([]registry.Column[*batchv1.Job]{
		{Name: "Status", Description: "What the job is doing, in one word.", Value: func(j *batchv1.Job) any { return jobState(j) }},
		{Name: "Completions", Description: "Pods that have succeeded, of those wanted.", Value: func(j *batchv1.Job) any { return completions(j) }},
		{Name: "Duration", Description: "How long it has been running, or ran.", Value: func(j *batchv1.Job) any { return jobDuration(j) }},
		registry.Age[*batchv1.Job](),
	}, podspec.TemplateColumns(1,
		func(j *batchv1.Job) *corev1.PodTemplateSpec { return &j.Spec.Template },
		func(j *batchv1.Job) string { return metav1.FormatLabelSelector(j.Spec.Selector) })...),
})

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = ptr.To[int32](1)
	}
	if s.Parallelism == nil {
		s.Parallelism = ptr.To[int32](1)
	}
	if s.BackoffLimit == nil {
		s.BackoffLimit = ptr.To[int32](6)
		if s.BackoffLimitPerIndex != nil {
			s.BackoffLimit = ptr.To[int32](math.MaxInt32)
		}
	}
	if s.CompletionMode == nil {
		s.CompletionMode = ptr.To(batchv1.NonIndexedCompletion)
	}
	if s.Suspend == nil {
		s.Suspend = ptr.To(false)
	}
	if s.ManualSelector == nil {
		s.ManualSelector = ptr.To(false)
	}
	if s.PodReplacementPolicy == nil {
		s.PodReplacementPolicy = ptr.To(batchv1.TerminatingOrFailed)
		if s.PodFailurePolicy != nil {
			s.PodReplacementPolicy = ptr.To(batchv1.Failed)
		}
	}
	defaultFailurePolicy(s.PodFailurePolicy)
	podspec.DefaultTemplate(&s.Template)
	// A job without labels takes those of its pods; before its own are chosen, see prepareJob.
	if _, chosen := s.Template.Labels[batchv1.JobNameLabel]; len(j.Labels) == 0 && (chosen || *s.ManualSelector) {
		j.Labels = maps.Clone(s.Template.Labels)
	}
}

func defaultFailurePolicy(p *batchv1.PodFailurePolicy) {
	if p == nil {
		return
	}
	for i := range p.Rules {
		for j := range p.Rules[i].OnPodConditions {
			if c := &p.Rules[i].OnPodConditions[j]; c.Status == "" {
				c.Status = corev1.ConditionTrue
			}
		}
	}
}

// The labels by which a job knows its pods; each has an older name that scripts use.
const (
	oldJobName       = "job-name"
	oldControllerUID = "controller-uid"
)

// prepareJob gives the job's pods labels that no other job's have, and the job a selector for them, unless the user said that
// he sees to it himself.
func prepareJob(j *batchv1.Job) {
	j.Status = batchv1.JobStatus{}
	j.Spec.Scheduling = nil // an alpha of Kubernetes
	if ptr.Deref(j.Spec.ManualSelector, false) {
		return
	}
	t := &j.Spec.Template
	t.Labels = maps.Clone(t.Labels)
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	for _, l := range jobLabels(j) {
		if _, ok := t.Labels[l.key]; !ok { // one that differs is refused later
			t.Labels[l.key] = l.value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	s := j.Spec.Selector
	s.MatchLabels = maps.Clone(s.MatchLabels)
	if s.MatchLabels == nil {
		s.MatchLabels = map[string]string{}
	}
	if _, ok := s.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		s.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
	if len(j.Labels) == 0 {
		j.Labels = maps.Clone(t.Labels)
	}
}

type label struct{ key, value string }

func jobLabels(j *batchv1.Job) []label {
	return []label{
		{oldControllerUID, string(j.UID)}, {oldJobName, j.Name},
		{batchv1.ControllerUidLabel, string(j.UID)}, {batchv1.JobNameLabel, j.Name},
	}
}

func warnJob(j, old *batchv1.Job) []string {
	path := field.NewPath("spec")
	if old != nil {
		return warnJobSpec(&j.Spec, &old.Spec, path)
	}
	return append(podspec.WarnName(j.Name), warnJobSpec(&j.Spec, nil, path)...)
}

func warnJobSpec(s, old *batchv1.JobSpec, path *field.Path) []string {
	var out []string
	var was *corev1.PodTemplateSpec
	if old != nil {
		was = &old.Template
	}
	if indexed(s) && ptr.Deref(s.Completions, 0) > manyIndexes && ptr.Deref(s.Parallelism, 0) > manyIndexesParallel {
		out = append(out, "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "+
			"Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(out, podspec.WarnTemplate(&s.Template, was, path.Child("template"))...)
}

func indexed(s *batchv1.JobSpec) bool {
	return ptr.Deref(s.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

func isTrue(j *batchv1.Job, what batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == what && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func jobState(j *batchv1.Job) string {
	switch {
	case isTrue(j, batchv1.JobComplete):
		return "Complete"
	case isTrue(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	}
	for _, what := range []batchv1.JobConditionType{batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if isTrue(j, what) {
			return string(what)
		}
	}
	return "Running"
}

func completions(j *batchv1.Job) string {
	switch parallel := ptr.Deref(j.Spec.Parallelism, 0); {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case parallel > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, parallel)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job) string {
	switch s := &j.Status; {
	case s.StartTime == nil:
		return ""
	case s.CompletionTime != nil:
		return duration.HumanDuration(s.CompletionTime.Sub(s.StartTime.Time))
	}
	return duration.HumanDuration(time.Since(j.Status.StartTime.Time))
}
