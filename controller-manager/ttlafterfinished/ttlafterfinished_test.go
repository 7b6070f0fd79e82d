package ttlafterfinished

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
)

func job(ttl *int32, conditions ...batchv1.JobCondition) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j"},
		Spec:       batchv1.JobSpec{TTLSecondsAfterFinished: ttl}, Status: batchv1.JobStatus{Conditions: conditions},
	}
}

func is(what batchv1.JobConditionType, status corev1.ConditionStatus, at time.Time) batchv1.JobCondition {
	return batchv1.JobCondition{Type: what, Status: status, LastTransitionTime: metav1.NewTime(at)}
}

func TestExpiry(t *testing.T) {
	end := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	complete := is(batchv1.JobComplete, corev1.ConditionTrue, end)
	going := job(ptr.To[int32](5), complete)
	going.DeletionTimestamp = &metav1.Time{Time: end}
	for name, tc := range map[string]struct {
		job  *batchv1.Job
		at   time.Time // zero: never
		left time.Duration
	}{
		"complete":                     {job: job(ptr.To[int32](30), complete), at: end.Add(30 * time.Second), left: 20 * time.Second},
		"failed":                       {job: job(ptr.To[int32](30), is(batchv1.JobFailed, corev1.ConditionTrue, end)), at: end.Add(30 * time.Second), left: 20 * time.Second},
		"at once":                      {job: job(ptr.To[int32](0), complete), at: end},
		"overdue":                      {job: job(ptr.To[int32](5), complete), at: end.Add(5 * time.Second)},
		"the last of several":          {job: job(ptr.To[int32](9), is(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, end.Add(-time.Hour)), complete), at: end.Add(9 * time.Second)},
		"our clock is behind":          {job: job(ptr.To[int32](1), is(batchv1.JobComplete, corev1.ConditionTrue, end.Add(time.Minute))), at: end.Add(61 * time.Second), left: 51 * time.Second},
		"kept for ever":                {job: job(nil, complete)},
		"still at work":                {job: job(ptr.To[int32](0))},
		"no longer failed":             {job: job(ptr.To[int32](0), is(batchv1.JobFailed, corev1.ConditionFalse, end))},
		"only going to fail":           {job: job(ptr.To[int32](0), is(batchv1.JobFailureTarget, corev1.ConditionTrue, end))},
		"finished at no time":          {job: job(ptr.To[int32](0), is(batchv1.JobComplete, corev1.ConditionTrue, time.Time{}))},
		"being deleted":                {job: going},
		"finished before it was asked": {job: job(ptr.To[int32](100000), is(batchv1.JobComplete, corev1.ConditionTrue, end.Add(-48*time.Hour))), at: end.Add(-48*time.Hour + 100000*time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			at, ok := expiry(tc.job)
			if ok == tc.at.IsZero() || !at.Equal(tc.at) {
				t.Fatalf("expires at %v, %v; want %v", at, ok, tc.at)
			}
			if woken := len(due(loop.Event{New: tc.job})) == 1; woken != ok {
				t.Errorf("woken: %v", woken)
			}
			if ok && left(at, end.Add(10*time.Second)) != tc.left {
				t.Errorf("%v left, want %v", left(at, end.Add(10*time.Second)), tc.left)
			}
		})
	}
	if due(loop.Event{Old: job(ptr.To[int32](0), complete)}) != nil {
		t.Error("woken by a job that is gone")
	}
}
