package job

import (
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/pod"
)

// TestNothingIsMiscounted lets jobs of all sorts run in a world in which controllers end between any two writes, and begin with
// caches of any age. Each pod is counted once, never do too many run, and no finalizer is left (model_test.go watches). A run
// is told by its seed.
func TestNothingIsMiscounted(t *testing.T) {
	runs := uint64(20)
	if testing.Short() {
		runs = 5
	}
	sorts := map[string]func(*batchv1.Job){
		"plain":      func(*batchv1.Job) {},
		"work queue": func(j *batchv1.Job) { j.Spec.Completions = nil },
		"indexed":    func(j *batchv1.Job) { j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion) },
		"per index": func(j *batchv1.Job) {
			j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
			j.Spec.BackoffLimitPerIndex = ptr.To[int32](2)
		},
		"easily failing": func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](2) },
		"in no time":     func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To[int64](300) },
	}
	worlds := map[string]rules{
		"calm":     {crashes: 0.02},
		"failing":  {failures: true, deletions: true, crashes: 0.05},
		"crashing": {failures: true, deletions: true, crashes: 0.3},
		"changing": {failures: true, deletions: true, suspending: true, resizing: true, crashes: 0.1},
		"rivals":   {failures: true, deletions: true, rivals: true, crashes: 0.1},
		"ending":   {failures: true, deletions: true, ending: true, crashes: 0.1},
	}
	for what, change := range sorts {
		for kind, r := range worlds {
			for _, policy := range []batchv1.PodReplacementPolicy{batchv1.TerminatingOrFailed, batchv1.Failed} {
				t.Run(fmt.Sprintf("%s, %s, %s", what, kind, policy), func(t *testing.T) {
					t.Parallel()
					for seed := range runs {
						j := job(func(j *batchv1.Job) {
							j.Spec.Completions, j.Spec.Parallelism = ptr.To[int32](9), ptr.To[int32](4)
							j.Spec.BackoffLimit = ptr.To[int32](1000)
							j.Spec.PodReplacementPolicy = &policy
							j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}}
							change(j)
						})
						play(t, seed, j, r)
					}
				})
			}
		}
	}
}

func play(t *testing.T, seed uint64, j *batchv1.Job, r rules) {
	m := newModel(t, seed, j, r)
	m.note("seed %d", seed)
	for range 120 {
		m.step()
	}
	m.calm = true
	last := m.job.DeepCopy() // with what it takes to end
	last.Spec.Suspend, last.Spec.Parallelism = nil, j.Spec.Parallelism
	m.setJob(last)
	for i := 0; !finished(m.job) && m.job.DeletionTimestamp == nil || i < 5; i++ {
		if m.step(); i > 200 {
			m.wrong("the job does not end: %+v", m.job.Status)
		}
	}
	for range 3 {
		m.step()
	}
	s := &m.job.Status
	over := finished(m.job)
	for _, p := range m.pods {
		if guarded(p) || !pod.Terminal(p) {
			m.wrong("%s is left, %s %v", p.UID, p.Status.Phase, p.Finalizers)
		}
	}
	if !over {
		return // it was deleted
	}
	if s.Active != 0 || *s.Ready != 0 || *s.Terminating != 0 || len(uncounted(s)) > 0 || s.StartTime == nil {
		m.wrong("in the end the status is %+v", s)
	}
	counted := len(m.entered)
	if indexed(m.job) {
		counted += int(s.Succeeded) // whose UIDs are not entered
		if got := parseIndexes(s.CompletedIndexes, wanted(m.job)); got.count() != int(s.Succeeded) {
			m.wrong("%d succeeded, completed %q", s.Succeeded, s.CompletedIndexes)
		}
	}
	if int(s.Succeeded+s.Failed) != counted {
		m.wrong("succeeded %d and failed %d, %d pods were counted", s.Succeeded, s.Failed, counted)
	}
	if !r.suspending && !r.resizing && !r.ending && !r.rivals && holds(s, batchv1.JobComplete) && int(s.Succeeded+s.Failed)+m.dismissed+m.doubles != m.made {
		m.wrong("succeeded %d and failed %d, dismissed %d, doubles %d; %d pods were made", s.Succeeded, s.Failed, m.dismissed, m.doubles, m.made)
	}
}
