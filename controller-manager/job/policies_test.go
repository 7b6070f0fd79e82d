package job

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	failJob   = batchv1.PodFailurePolicyActionFailJob
	failIndex = batchv1.PodFailurePolicyActionFailIndex
	ignore    = batchv1.PodFailurePolicyActionIgnore
	count     = batchv1.PodFailurePolicyActionCount
	in        = batchv1.PodFailurePolicyOnExitCodesOpIn
	notIn     = batchv1.PodFailurePolicyOnExitCodesOpNotIn
)

func TestFailurePolicy(t *testing.T) {
	exit := func(code int32) *corev1.Pod { return one("p", stopped(corev1.PodFailed, code, 0)) }
	evicted := exit(143)
	evicted.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	two := exit(0)
	two.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 7}}}}
	disrupted := batchv1.PodFailurePolicyRule{Action: ignore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}}
	undisrupted := batchv1.PodFailurePolicyRule{Action: ignore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse}}}
	named := func(name string) batchv1.PodFailurePolicyRule {
		r := onCode(failJob, in, 7)
		r.OnExitCodes.ContainerName = &name
		return r
	}
	for name, tc := range map[string]struct {
		pod     *corev1.Pod
		rules   []batchv1.PodFailurePolicyRule
		action  batchv1.PodFailurePolicyAction
		counts  bool
		message string
	}{
		"no rule":                      {pod: exit(1), counts: true},
		"a code in the list":           {exit(42), []batchv1.PodFailurePolicyRule{onCode(failJob, in, 1, 42)}, failJob, true, "Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 0"},
		"a code not in it":             {exit(3), []batchv1.PodFailurePolicyRule{onCode(failJob, in, 1, 42)}, "", true, ""},
		"any other code":               {exit(3), []batchv1.PodFailurePolicyRule{onCode(failJob, notIn, 1, 42)}, failJob, true, "Container c for pod ns/p failed with exit code 3 matching FailJob rule at index 0"},
		"not another code":             {exit(42), []batchv1.PodFailurePolicyRule{onCode(failJob, notIn, 1, 42)}, "", true, ""},
		"success matches nothing":      {exit(0), []batchv1.PodFailurePolicyRule{onCode(failJob, notIn, 1)}, "", true, ""},
		"the first rule that matches":  {exit(42), []batchv1.PodFailurePolicyRule{onCode(count, in, 9), onCode(ignore, in, 42), onCode(failJob, in, 42)}, ignore, false, "Container c for pod ns/p failed with exit code 42 matching Ignore rule at index 1"},
		"a count stops the rest":       {exit(42), []batchv1.PodFailurePolicyRule{onCode(count, in, 42), onCode(failJob, in, 42)}, count, true, "Container c for pod ns/p failed with exit code 42 matching Count rule at index 0"},
		"an index fails":               {exit(42), []batchv1.PodFailurePolicyRule{onCode(failIndex, in, 42)}, failIndex, true, "Container c for pod ns/p failed with exit code 42 matching FailIndex rule at index 0"},
		"an unknown action":            {exit(42), []batchv1.PodFailurePolicyRule{onCode("Later", in, 42), onCode(ignore, in, 42)}, ignore, false, "Container c for pod ns/p failed with exit code 42 matching Ignore rule at index 1"},
		"an unknown operator":          {exit(42), []batchv1.PodFailurePolicyRule{onCode(ignore, "Near", 42)}, "", true, ""},
		"a condition":                  {evicted, []batchv1.PodFailurePolicyRule{disrupted}, ignore, false, "Pod ns/p has condition DisruptionTarget matching Ignore rule at index 0"},
		"a condition it does not have": {exit(1), []batchv1.PodFailurePolicyRule{disrupted}, "", true, ""},
		"a condition of other status":  {evicted, []batchv1.PodFailurePolicyRule{undisrupted}, "", true, ""},
		"an init container":            {two, []batchv1.PodFailurePolicyRule{onCode(failJob, in, 7)}, failJob, true, "Container i for pod ns/p failed with exit code 7 matching FailJob rule at index 0"},
		"the container by name":        {two, []batchv1.PodFailurePolicyRule{named("i")}, failJob, true, "Container i for pod ns/p failed with exit code 7 matching FailJob rule at index 0"},
		"another container by name":    {two, []batchv1.PodFailurePolicyRule{named("c")}, "", true, ""},
		"a container that still runs":  {one("p"), []batchv1.PodFailurePolicyRule{onCode(failJob, notIn, 1)}, "", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(&batchv1.PodFailurePolicy{Rules: tc.rules}, tc.pod)
			if want := (ruling{tc.action, tc.message, tc.counts}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
	if !judge(nil, exit(1)).counts {
		t.Error("without a policy a failure does not count")
	}
}

func TestSuccessPolicy(t *testing.T) {
	rule := func(indexes string, n int32) batchv1.SuccessPolicyRule {
		var r batchv1.SuccessPolicyRule
		if indexes != "" {
			r.SucceededIndexes = &indexes
		}
		if n > 0 {
			r.SucceededCount = &n
		}
		return r
	}
	for name, tc := range map[string]struct {
		rules []batchv1.SuccessPolicyRule
		done  string
		want  string
	}{
		"nothing yet":                   {[]batchv1.SuccessPolicyRule{rule("", 1)}, "", ""},
		"enough of any":                 {[]batchv1.SuccessPolicyRule{rule("", 2)}, "1,7", "Matched rules at index 0"},
		"not enough of any":             {[]batchv1.SuccessPolicyRule{rule("", 3)}, "1,7", ""},
		"all of the listed":             {[]batchv1.SuccessPolicyRule{rule("1,3-5", 0)}, "0-5", "Matched rules at index 0"},
		"not all of the listed":         {[]batchv1.SuccessPolicyRule{rule("1,3-5", 0)}, "0-4", ""},
		"enough of the listed":          {[]batchv1.SuccessPolicyRule{rule("1-4", 2)}, "1,3,5", "Matched rules at index 0"},
		"not enough of the listed":      {[]batchv1.SuccessPolicyRule{rule("1-4", 3)}, "1,3,5", ""},
		"the second rule":               {[]batchv1.SuccessPolicyRule{rule("9", 0), rule("", 1)}, "4", "Matched rules at index 1"},
		"the first that is met is said": {[]batchv1.SuccessPolicyRule{rule("", 1), rule("4", 0)}, "4", "Matched rules at index 0"},
		"a rule that asks for nothing":  {[]batchv1.SuccessPolicyRule{rule("", 0)}, "0-9", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, met := enough(&batchv1.SuccessPolicy{Rules: tc.rules}, 10, parseIndexes(tc.done, 10))
			if got != tc.want || met != (tc.want != "") {
				t.Errorf("%q, %v; want %q", got, met, tc.want)
			}
		})
	}
	if _, met := enough(nil, 10, parseIndexes("0-9", 10)); met {
		t.Error("a policy that is none is met")
	}
}

func TestPause(t *testing.T) {
	for name, tc := range map[string]struct {
		failures int
		ago      time.Duration
		want     time.Duration
	}{
		"none":             {0, 0, 0},
		"the first":        {1, 0, 10 * time.Second},
		"some time ago":    {1, 4 * time.Second, 6 * time.Second},
		"long ago":         {1, time.Minute, 0},
		"the second":       {2, 0, 20 * time.Second},
		"the fifth":        {5, 0, 160 * time.Second},
		"the sixth":        {6, 0, 320 * time.Second},
		"the seventh":      {7, 0, 6 * time.Minute},
		"the thousandth":   {1000, time.Minute, 5 * time.Minute},
		"by another clock": {1, -3 * time.Second, 13 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pause(tc.failures, noon.Add(-tc.ago), noon); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestRowOfFailures(t *testing.T) {
	fail := func(name string, ago time.Duration, more ...trait) *corev1.Pod {
		return one(name, append([]trait{stopped(corev1.PodFailed, 1, ago)}, more...)...)
	}
	good := func(name string, ago time.Duration) *corev1.Pod {
		return one(name, stopped(corev1.PodSucceeded, 0, ago))
	}
	for name, tc := range map[string]struct {
		looks    [][]*corev1.Pod
		failures int
		ago      time.Duration
	}{
		"none":                                 {looks: [][]*corev1.Pod{{one("a")}}},
		"two":                                  {[][]*corev1.Pod{{fail("a", 3), fail("b", 2)}}, 2, 2},
		"seen twice":                           {[][]*corev1.Pod{{fail("a", 3)}, {fail("a", 3)}}, 1, 3},
		"one after the other":                  {[][]*corev1.Pod{{fail("a", 3)}, {fail("a", 3), fail("b", 2)}}, 2, 2},
		"the first is gone":                    {[][]*corev1.Pod{{fail("a", 3)}, {fail("b", 2)}, {fail("b", 2)}}, 2, 2},
		"a success between":                    {[][]*corev1.Pod{{fail("a", 5), good("b", 4), fail("c", 3)}}, 1, 3},
		"a success since":                      {[][]*corev1.Pod{{fail("a", 5)}, {fail("a", 5), good("b", 4)}}, 0, 5},
		"a success that is told late":          {[][]*corev1.Pod{{fail("a", 3)}, {fail("a", 3), good("b", 9)}}, 1, 3},
		"those of a former term":               {[][]*corev1.Pod{{fail("a", 3, free), fail("b", 2, free)}}, 2, 2},
		"going pods fail":                      {[][]*corev1.Pod{{one("a", leaving)}}, 1, time.Hour},
		"pods that were given up do not count": {[][]*corev1.Pod{{one("a", leaving, free), fail("b", 2, leaving, free)}}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			v := seen(job(), nil, 0)
			for _, pods := range tc.looks {
				v.row.look(pods, v.failed)
			}
			if v.row.failures != tc.failures || tc.failures > 0 && !v.row.last.Equal(noon.Add(-tc.ago)) {
				t.Errorf("%d, the last at %v; want %d, %v ago", v.row.failures, v.row.last, tc.failures, tc.ago)
			}
		})
	}
}

func TestFinishedAt(t *testing.T) {
	going := one("p", func(p *corev1.Pod) {
		p.DeletionTimestamp = &metav1.Time{Time: noon.Add(30 * time.Second)}
		p.DeletionGracePeriodSeconds = ptr.To[int64](30)
	})
	unready := one("p", func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(noon.Add(-time.Minute))}}
	})
	two := one("p", stopped(corev1.PodFailed, 1, 5*time.Minute))
	two.Status.ContainerStatuses = append(two.Status.ContainerStatuses, one("q", stopped(corev1.PodFailed, 1, 2*time.Minute)).Status.ContainerStatuses...)
	running := two.DeepCopy()
	running.Status.ContainerStatuses[1].State = corev1.ContainerState{}
	for name, tc := range map[string]struct {
		pod *corev1.Pod
		ago time.Duration
	}{
		"its last container":              {two, 2 * time.Minute},
		"a container whose end is untold": {running, time.Hour},
		"no longer ready":                 {unready, time.Minute},
		"asked to end":                    {going, 0},
		"nothing but its creation":        {one("p", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			if got := finishedAt(tc.pod); !got.Equal(noon.Add(-tc.ago)) {
				t.Errorf("%v, want %v before noon", got, tc.ago)
			}
		})
	}
}
