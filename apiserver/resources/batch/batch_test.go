package batch

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func check(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: "Never", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

// job is one as it comes to be stored.
func job(change func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "u"}, Spec: batchv1.JobSpec{Template: template()}}
	if change != nil {
		change(j)
	}
	Jobs.Default(j)
	Jobs.BeforeCreate(j)
	return j
}

func TestJobDefaults(t *testing.T) {
	j := job(nil)
	s := &j.Spec
	if *s.Completions != 1 || *s.Parallelism != 1 || *s.BackoffLimit != 6 || *s.CompletionMode != "NonIndexed" || *s.Suspend || *s.ManualSelector ||
		*s.PodReplacementPolicy != "TerminatingOrFailed" {
		t.Errorf("spec %+v", s)
	}
	want := map[string]string{"controller-uid": "u", "job-name": "j", "batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j"}
	if fmt.Sprint(s.Template.Labels) != fmt.Sprint(want) || fmt.Sprint(j.Labels) != fmt.Sprint(want) {
		t.Errorf("labels %v of pods, %v of the job", s.Template.Labels, j.Labels)
	}
	if fmt.Sprint(s.Selector.MatchLabels) != "map[batch.kubernetes.io/controller-uid:u]" {
		t.Errorf("selector %v", s.Selector)
	}
	j = job(func(j *batchv1.Job) {
		j.Labels = map[string]string{"mine": "1"}
		j.Spec = batchv1.JobSpec{Parallelism: ptr.To[int32](2), BackoffLimitPerIndex: ptr.To[int32](1), ManualSelector: ptr.To(true), Template: template(),
			PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "x"}}}}}}
	})
	s = &j.Spec
	if s.Completions != nil || *s.BackoffLimit != math.MaxInt32 || *s.PodReplacementPolicy != "Failed" || s.Selector != nil || len(s.Template.Labels) != 0 || len(j.Labels) != 1 ||
		s.PodFailurePolicy.Rules[0].OnPodConditions[0].Status != "True" {
		t.Errorf("spec %+v", s)
	}
}

func TestValidateJob(t *testing.T) {
	spec := func(change func(*batchv1.JobSpec)) func(*batchv1.Job) {
		return func(j *batchv1.Job) { change(&j.Spec) }
	}
	index := func(n int32, change func(*batchv1.JobSpec)) func(*batchv1.Job) {
		return spec(func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions = ptr.To(batchv1.IndexedCompletion), &n
			if change != nil {
				change(s)
			}
		})
	}
	rule := func(r batchv1.PodFailurePolicyRule) func(*batchv1.Job) {
		return spec(func(s *batchv1.JobSpec) {
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{r}}
		})
	}
	codes := func(c batchv1.PodFailurePolicyOnExitCodesRequirement) func(*batchv1.Job) {
		return rule(batchv1.PodFailurePolicyRule{Action: "Count", OnExitCodes: &c})
	}
	success := func(r ...batchv1.SuccessPolicyRule) func(*batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) { s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: r} }
	}
	n := ptr.To[int32]
	for _, c := range []struct {
		name   string
		change func(*batchv1.Job)
		want   []string
	}{
		{"least", nil, nil},
		{"on failure", spec(func(s *batchv1.JobSpec) { s.Template.Spec.RestartPolicy = "OnFailure" }), nil},
		{"pods for ever", spec(func(s *batchv1.JobSpec) { s.Template.Spec.RestartPolicy = "" }), []string{"spec.template.spec.restartPolicy: Required value"}},
		{"negative numbers", spec(func(s *batchv1.JobSpec) {
			s.Parallelism, s.Completions, s.BackoffLimit, s.TTLSecondsAfterFinished, s.ActiveDeadlineSeconds = n(-1), n(-1), n(-1), n(-1), ptr.To[int64](-1)
		}), []string{"spec.activeDeadlineSeconds: Invalid value", "spec.backoffLimit: Invalid value", "spec.completions: Invalid value", "spec.parallelism: Invalid value",
			"spec.ttlSecondsAfterFinished: Invalid value"}},
		{"labels of another job", spec(func(s *batchv1.JobSpec) { s.Template.Labels = map[string]string{"controller-uid": "x"} }),
			[]string{"spec.template.metadata.labels[controller-uid]: Invalid value"}},
		{"selector of another job", spec(func(s *batchv1.JobSpec) {
			s.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"batch.kubernetes.io/controller-uid": "x"}}
		}), []string{"spec.selector: Invalid value", "spec.template.metadata.labels: Invalid value"}},
		{"own selector", spec(func(s *batchv1.JobSpec) {
			s.ManualSelector, s.Selector, s.Template.Labels = ptr.To(true), &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, map[string]string{"a": "b"}
		}), nil},
		{"no own selector", spec(func(s *batchv1.JobSpec) { s.ManualSelector = ptr.To(true) }), []string{"spec.selector: Required value"}},
		{"managed by nobody", spec(func(s *batchv1.JobSpec) { s.ManagedBy = ptr.To("me") }), []string{"spec.managedBy: Invalid value"}},
		{"managed by a long name", spec(func(s *batchv1.JobSpec) { s.ManagedBy = ptr.To("a.b/" + strings.Repeat("x", 60)) }), []string{"spec.managedBy: Too long"}},

		{"indexed", index(3, nil), nil},
		{"odd mode", spec(func(s *batchv1.JobSpec) { s.CompletionMode = ptr.To(batchv1.CompletionMode("Any")) }), []string{"spec.completionMode: Unsupported value"}},
		{"indexed without end", spec(func(s *batchv1.JobSpec) { s.CompletionMode, s.Parallelism = ptr.To(batchv1.IndexedCompletion), n(1) }), []string{"spec.completions: Required value"}},
		{"indexed, too many at once", index(3, func(s *batchv1.JobSpec) { s.Parallelism = n(100_001) }), []string{"spec.parallelism: Invalid value"}},
		{"indexed, name too long for its hosts", func(j *batchv1.Job) {
			index(11, nil)(j)
			j.Name = strings.Repeat("x", 61)
		}, []string{"metadata.name: Invalid value"}},
		{"limits of indexes without any", spec(func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex, s.MaxFailedIndexes = n(1), n(1) }),
			[]string{"spec.backoffLimitPerIndex: Invalid value", "spec.maxFailedIndexes: Invalid value"}},
		{"more failed than all", index(3, func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex, s.MaxFailedIndexes = n(1), n(4) }), []string{"spec.maxFailedIndexes: Invalid value"}},
		{"failed indexes without their limit", index(3, func(s *batchv1.JobSpec) { s.MaxFailedIndexes = n(1) }), []string{"spec.backoffLimitPerIndex: Required value"}},
		{"very many indexes", index(100_001, func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex, s.Parallelism = n(1), n(10_001) }),
			[]string{"spec.maxFailedIndexes: Required value", "spec.parallelism: Invalid value"}},

		{"failure policy", codes(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{1, 2}, ContainerName: ptr.To("c")}), nil},
		{"failure policy of restarted pods", func(j *batchv1.Job) {
			codes(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{1}})(j)
			j.Spec.Template.Spec.RestartPolicy = "OnFailure"
		}, []string{"spec.template.spec.restartPolicy: Invalid value"}},
		{"failure policy and hasty successors", func(j *batchv1.Job) {
			codes(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{1}})(j)
			j.Spec.PodReplacementPolicy = ptr.To(batchv1.TerminatingOrFailed)
		}, []string{"spec.podReplacementPolicy: Unsupported value"}},
		{"odd successors", spec(func(s *batchv1.JobSpec) { s.PodReplacementPolicy = ptr.To(batchv1.PodReplacementPolicy("Never")) }), []string{"spec.podReplacementPolicy: Unsupported value"}},
		{"rule of nothing", rule(batchv1.PodFailurePolicyRule{}), []string{"spec.podFailurePolicy.rules[0].action: Required value", "spec.podFailurePolicy.rules[0]: Invalid value"}},
		{"rule of two things", rule(batchv1.PodFailurePolicyRule{Action: "Go", OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "NotIn", Values: []int32{0}},
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "a b", Status: "Maybe"}}}),
			[]string{"spec.podFailurePolicy.rules[0].action: Unsupported value", "spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value",
				"spec.podFailurePolicy.rules[0].onPodConditions[0].type: Invalid value", "spec.podFailurePolicy.rules[0]: Invalid value"}},
		{"index fails without its limit", rule(batchv1.PodFailurePolicyRule{Action: "FailIndex", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "a"}}}),
			[]string{"spec.podFailurePolicy.rules[0].action: Invalid value"}},
		{"odd exit codes", codes(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{2, 0, 2}, ContainerName: ptr.To("x")}),
			[]string{"spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value", "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value",
				"spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value", "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value"}},
		{"too many exit codes", codes(batchv1.PodFailurePolicyOnExitCodesRequirement{Values: func() (v []int32) {
			for i := range int32(256) {
				v = append(v, i)
			}
			return v
		}()}), []string{"spec.podFailurePolicy.rules[0].onExitCodes.operator: Required value", "spec.podFailurePolicy.rules[0].onExitCodes.values: Too many"}},
		{"too many rules", spec(func(s *batchv1.JobSpec) {
			r := batchv1.PodFailurePolicyRule{Action: "Count", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "a"}}}
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: slices.Repeat([]batchv1.PodFailurePolicyRule{r}, 21)}
		}), []string{"spec.podFailurePolicy.rules: Too many"}},

		{"success policy", index(5, success(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("0,2-4"), SucceededCount: n(4)})), nil},
		{"success policy without indexes", spec(success(batchv1.SuccessPolicyRule{SucceededCount: n(1)})), []string{"spec.successPolicy: Invalid value"}},
		{"success policy of nothing", index(5, success()), []string{"spec.successPolicy.rules: Required value"}},
		{"success rule of nothing", index(5, success(batchv1.SuccessPolicyRule{})), []string{"spec.successPolicy.rules[0]: Required value"}},
		{"success of indexes there are not", index(5, success(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("5")})), []string{"spec.successPolicy.rules[0].succeededIndexes: Invalid value"}},
		{"success of more than all", index(5, success(batchv1.SuccessPolicyRule{SucceededCount: n(6)})), []string{"spec.successPolicy.rules[0].succeededCount: Invalid value"}},
		{"success of more than the chosen", index(5, success(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("1-2"), SucceededCount: n(3)})),
			[]string{"spec.successPolicy.rules[0].succeededCount: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, brief(Jobs.Validate(job(c.change))), c.want) })
	}
}

func TestUpdateJob(t *testing.T) {
	suspended := func(j *batchv1.Job) { j.Spec.Suspend = ptr.To(true) }
	elastic := func(j *batchv1.Job) {
		j.Spec.CompletionMode, j.Spec.Completions, j.Spec.Parallelism = ptr.To(batchv1.IndexedCompletion), ptr.To[int32](2), ptr.To[int32](2)
	}
	place := func(j *batchv1.Job) {
		s := &j.Spec.Template.Spec
		s.NodeSelector, s.Tolerations = map[string]string{"a": "b"}, []corev1.Toleration{{Operator: "Exists"}}
		s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		s.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
		j.Spec.Template.Annotations = map[string]string{"a": "b"}
	}
	for _, c := range []struct {
		name        string
		old, change func(*batchv1.Job)
		want        []string
	}{
		{"parallelism, limits, pause", nil, func(j *batchv1.Job) {
			j.Spec.Parallelism, j.Spec.Suspend, j.Spec.BackoffLimit, j.Spec.ActiveDeadlineSeconds, j.Spec.TTLSecondsAfterFinished = ptr.To[int32](5), ptr.To(true), ptr.To[int32](1), ptr.To[int64](9), ptr.To[int32](1)
		}, nil},
		{"completions", nil, func(j *batchv1.Job) { j.Spec.Completions = ptr.To[int32](2) }, []string{"spec.completions: Invalid value"}},
		{"completions of an elastic job", elastic, func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = ptr.To[int32](3), ptr.To[int32](3) }, nil},
		{"completions alone of an elastic job", elastic, func(j *batchv1.Job) { j.Spec.Completions = ptr.To[int32](3) }, []string{"spec.completions: Invalid value"}},
		{"what is chosen for ever", nil, func(j *batchv1.Job) {
			s := &j.Spec
			s.Selector, s.CompletionMode, s.PodFailurePolicy = &metav1.LabelSelector{}, nil, &batchv1.PodFailurePolicy{}
			s.BackoffLimitPerIndex, s.ManagedBy, s.SuccessPolicy = ptr.To[int32](1), ptr.To("a.b/c"), &batchv1.SuccessPolicy{}
		}, []string{"spec.backoffLimitPerIndex: Invalid value", "spec.completionMode: Invalid value", "spec.managedBy: Invalid value", "spec.podFailurePolicy: Invalid value",
			"spec.selector: Invalid value", "spec.successPolicy: Invalid value"}},
		{"where its pods run", nil, place, []string{"spec.template: Invalid value"}},
		{"where a suspended job's pods run", suspended, place, nil},
		{"where pods of one that began run", func(j *batchv1.Job) {
			suspended(j)
			j.Status.StartTime = &metav1.Time{Time: time.Unix(1, 0)}
			j.Status.Active = 1
		}, place, []string{"spec.template: Invalid value"}},
		{"what a suspended job's pods do", suspended, func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "x" }, []string{"spec.template: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := job(nil)
			if c.old != nil {
				c.old(old)
			}
			j := old.DeepCopy()
			c.change(j)
			check(t, brief(Jobs.ValidateUpdate(j, old)), c.want)
		})
	}
}

func TestJobStatus(t *testing.T) {
	at := func(s int64) *metav1.Time { return &metav1.Time{Time: time.Unix(s, 0)} }
	with := func(what ...batchv1.JobConditionType) (out []batchv1.JobCondition) {
		for _, w := range what {
			out = append(out, batchv1.JobCondition{Type: w, Status: "True"})
		}
		return out
	}
	type status = batchv1.JobStatus
	done := status{StartTime: at(1), CompletionTime: at(2), Succeeded: 1, Conditions: with("SuccessCriteriaMet", "Complete")}
	for _, c := range []struct {
		name    string
		spec    func(*batchv1.JobSpec)
		old, is status
		want    []string
	}{
		{"begun", nil, status{}, status{StartTime: at(1), Active: 2, Ready: ptr.To[int32](1)}, nil},
		{"done", nil, status{StartTime: at(1)}, done, nil},
		{"failed", nil, status{StartTime: at(1)}, status{StartTime: at(1), Failed: 1, Conditions: with("FailureTarget", "Failed")}, nil},
		{"below zero", nil, status{}, status{Active: -1, Succeeded: -1, Failed: -1, Ready: ptr.To[int32](-1), Terminating: ptr.To[int32](-1)},
			[]string{"status.active: Invalid value", "status.failed: Invalid value", "status.failed: Invalid value", "status.ready: Invalid value", "status.succeeded: Invalid value", "status.succeeded: Invalid value",
				"status.terminating: Invalid value"}},
		{"fewer than before", nil, status{Succeeded: 2, Failed: 2}, status{Succeeded: 1, Failed: 1}, []string{"status.failed: Invalid value", "status.succeeded: Invalid value"}},
		{"more ready than there are", nil, status{}, status{Ready: ptr.To[int32](1)}, []string{"status.ready: Invalid value"}},
		{"a pod twice", nil, status{}, status{UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{"a"}, Failed: []types.UID{"a", ""}}},
			[]string{"status.uncountedTerminatedPods.failed[0]: Duplicate value", "status.uncountedTerminatedPods.failed[1]: Invalid value"}},
		{"no longer done", nil, done, status{StartTime: at(1), Succeeded: 1}, []string{"status.conditions: Invalid value", "status.conditions: Invalid value"}},
		{"done without reason", nil, status{StartTime: at(1)}, status{StartTime: at(1), CompletionTime: at(2), Conditions: with("Complete")}, []string{"status.conditions: Invalid value"}},
		{"failed without reason", nil, status{StartTime: at(1)}, status{StartTime: at(1), Conditions: with("Failed")}, []string{"status.conditions: Invalid value"}},
		{"done and not at a time", nil, status{StartTime: at(1)}, status{StartTime: at(1), Conditions: with("SuccessCriteriaMet", "Complete")}, []string{"status.completionTime: Required value"}},
		{"at a time and not done", nil, status{StartTime: at(1)}, status{StartTime: at(1), CompletionTime: at(2)}, []string{"status.completionTime: Invalid value"}},
		{"done before it began", nil, status{}, status{StartTime: at(3), CompletionTime: at(2), Conditions: with("SuccessCriteriaMet", "Complete")}, []string{"status.completionTime: Invalid value"}},
		{"done at another time", nil, done, status{StartTime: at(1), CompletionTime: at(5), Succeeded: 1, Conditions: done.Conditions}, []string{"status.completionTime: Invalid value"}},
		{"begun at another time", nil, status{StartTime: at(1)}, status{StartTime: at(2)}, []string{"status.startTime: Required value"}},
		{"suspended", func(s *batchv1.JobSpec) { s.Suspend = ptr.To(true) }, status{StartTime: at(1)}, status{}, nil},
		{"done with pods left", nil, status{}, status{Active: 1, Terminating: ptr.To[int32](1), CompletionTime: at(1), Conditions: done.Conditions,
			UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{Failed: []types.UID{"a"}}},
			[]string{"status.active: Invalid value", "status.startTime: Required value", "status.terminating: Invalid value", "status.uncountedTerminatedPods: Invalid value"}},
		{"indexes of a job without", nil, status{}, status{CompletedIndexes: "0", FailedIndexes: ptr.To("")}, []string{"status.completedIndexes: Invalid value", "status.failedIndexes: Invalid value"}},
		{"indexes", func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions, s.BackoffLimitPerIndex = ptr.To(batchv1.IndexedCompletion), ptr.To[int32](9), ptr.To[int32](1)
		}, status{}, status{CompletedIndexes: "0,2-4", FailedIndexes: ptr.To("1,5-6")}, nil},
		{"indexes both done and failed", func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions, s.BackoffLimitPerIndex = ptr.To(batchv1.IndexedCompletion), ptr.To[int32](9), ptr.To[int32](1)
		}, status{}, status{CompletedIndexes: "0,2-4", FailedIndexes: ptr.To("1,4-6")}, []string{"status.failedIndexes: Invalid value"}},
		{"indexes in disorder", func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions = ptr.To(batchv1.IndexedCompletion), ptr.To[int32](9)
		},
			status{}, status{CompletedIndexes: "3,1"}, []string{"status.completedIndexes: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := job(nil)
			if c.spec != nil {
				c.spec(&old.Spec)
			}
			j := old.DeepCopy()
			old.Status, j.Status = c.old, c.is
			check(t, brief(Jobs.ValidateStatus(j, old)), c.want)
		})
	}
}

func TestParseIndexes(t *testing.T) {
	for text, want := range map[string]string{
		"": "0", "0": "1", "1,3-5,7": "5", "9": `too large index: "9"`, "1-9": `too large index: "9"`, "x": `cannot convert string to integer for index: "x"`, "-1": `cannot convert string to integer for index: ""`,
		"3-3": "non-increasing order, previous: 3, current: 3", "1,1": "non-increasing order, previous: 1, current: 1",
		"1-2-3": `the fragment "1-2-3" violates the requirement that an index interval can have at most two parts separated by '-'`,
	} {
		set, err := parseIndexes(text, 9)
		got := fmt.Sprint(set.count())
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func cronJob(change func(*batchv1.CronJobSpec)) *batchv1.CronJob {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: batchv1.CronJobSpec{Schedule: "*/5 * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template()}}}}
	if change != nil {
		change(&c.Spec)
	}
	CronJobs.Default(c)
	CronJobs.BeforeCreate(c)
	return c
}

func TestValidateCronJob(t *testing.T) {
	n := ptr.To[int32](-1)
	zone := func(z string) func(*batchv1.CronJobSpec) {
		return func(s *batchv1.CronJobSpec) { s.TimeZone = &z }
	}
	at := func(when string) func(*batchv1.CronJobSpec) {
		return func(s *batchv1.CronJobSpec) { s.Schedule = when }
	}
	for _, c := range []struct {
		name   string
		change func(*batchv1.CronJobSpec)
		want   []string
	}{
		{"least", nil, nil},
		{"in words", at("@hourly"), nil},
		{"never", at(""), []string{"spec.schedule: Required value"}},
		{"too often", at("* * * * * *"), []string{"spec.schedule: Invalid value"}},
		{"with its zone", at("TZ=UTC * * * * *"), []string{"spec.schedule: Invalid value"}},
		{"with nothing but its zone", at("CRON_TZ=UTC"), []string{"spec.schedule: Invalid value"}},
		{"in Berlin", zone("Europe/Berlin"), nil},
		{"nowhere", zone(""), []string{"spec.timeZone: Invalid value"}},
		{"here", zone("Local"), []string{"spec.timeZone: Invalid value"}},
		{"upwards", zone("../etc"), []string{"spec.timeZone: Invalid value"}},
		{"in no such place", zone("Atlantis/City"), []string{"spec.timeZone: Invalid value"}},
		{"negative numbers", func(s *batchv1.CronJobSpec) {
			s.StartingDeadlineSeconds, s.SuccessfulJobsHistoryLimit, s.FailedJobsHistoryLimit = ptr.To[int64](-1), n, n
		}, []string{"spec.failedJobsHistoryLimit: Invalid value", "spec.startingDeadlineSeconds: Invalid value", "spec.successfulJobsHistoryLimit: Invalid value"}},
		{"all at once", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = "Race" }, []string{"spec.concurrencyPolicy: Unsupported value"}},
		{"own selector", func(s *batchv1.CronJobSpec) {
			s.JobTemplate.Spec.Selector, s.JobTemplate.Spec.ManualSelector = &metav1.LabelSelector{}, ptr.To(true)
		}, []string{"spec.jobTemplate.spec.manualSelector: Unsupported value", "spec.jobTemplate.spec.selector: Invalid value"}},
		{"bad job", func(s *batchv1.CronJobSpec) { s.JobTemplate.Spec.Template.Spec.Containers[0].Image = "" }, []string{"spec.jobTemplate.spec.template.spec.containers[0].image: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, brief(CronJobs.Validate(cronJob(c.change))), c.want) })
	}
	for name, want := range map[string]int{strings.Repeat("x", 52): 0, strings.Repeat("x", 53): 1, "A": 1} {
		if got := CronJobs.Name(name, false); len(got) != want {
			t.Errorf("%q: %q", name, got)
		}
	}
	s := &cronJob(nil).Spec
	if s.ConcurrencyPolicy != "Allow" || *s.Suspend || *s.SuccessfulJobsHistoryLimit != 3 || *s.FailedJobsHistoryLimit != 1 || s.JobTemplate.Spec.BackoffLimit != nil {
		t.Errorf("defaults %+v", s)
	}
}

func TestColumns(t *testing.T) {
	ago := &metav1.Time{Time: time.Now().Add(-90 * time.Second)}
	with := func(change func(*batchv1.Job)) *batchv1.Job {
		j := job(nil)
		change(j)
		return j
	}
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want map[string]string
	}{
		{"new job", Jobs, job(nil), map[string]string{"Status": "Running", "Completions": "0/1", "Duration": "", "Containers": "c", "Images": "i", "Selector": "batch.kubernetes.io/controller-uid=u"}},
		{"running job", Jobs, with(func(j *batchv1.Job) {
			j.Status.StartTime, j.Spec.Completions, j.Spec.Parallelism, j.Status.Succeeded = ago, nil, ptr.To[int32](3), 1
		}), map[string]string{"Completions": "1/1 of 3", "Duration": "90s"}},
		{"done job", Jobs, with(func(j *batchv1.Job) {
			j.Status = batchv1.JobStatus{StartTime: ago, CompletionTime: &metav1.Time{Time: ago.Add(time.Second * 5)}, Succeeded: 1, Conditions: []batchv1.JobCondition{{Type: "SuccessCriteriaMet", Status: "True"}, {Type: "Complete", Status: "True"}}}
		}), map[string]string{"Status": "Complete", "Completions": "1/1", "Duration": "5s"}},
		{"suspended job", Jobs, with(func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: "Suspended", Status: "True"}}
		}), map[string]string{"Status": "Suspended"}},
		{"deleted job", Jobs, with(func(j *batchv1.Job) { j.DeletionTimestamp = ago }), map[string]string{"Status": "Terminating"}},
		{"new cron job", CronJobs, cronJob(nil), map[string]string{"Schedule": "*/5 * * * *", "Timezone": "<none>", "Suspend": "False", "Active": "0", "Last Schedule": "<none>", "Selector": "<none>"}},
		{"cron job", CronJobs, &batchv1.CronJob{Spec: batchv1.CronJobSpec{TimeZone: ptr.To("UTC"), Suspend: ptr.To(true)}, Status: batchv1.CronJobStatus{LastScheduleTime: ago, Active: make([]corev1.ObjectReference, 2)}},
			map[string]string{"Timezone": "UTC", "Suspend": "True", "Active": "2", "Last Schedule": "90s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := map[string]string{}
			for i, v := range c.of.Cells(c.obj) {
				got[c.of.Columns[i].Name] = fmt.Sprint(v)
			}
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
		})
	}
}
