package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// story is a plan in words: "create 0 2:1+1" makes pods for index 0 and for index 2 after one failure that counted and one
// that did not, "dismiss" deletes without counting, "again" looks again after so long.
func story(p plan) string {
	var out []string
	if p.ending != nil {
		out = append(out, fmt.Sprintf("end %v %s", p.ending.success, p.ending.reason))
	}
	if len(p.remove) > 0 {
		verb := map[bool]string{false: "delete", true: "dismiss"}[p.dismiss]
		if len(p.remove) > 4 {
			verb += fmt.Sprintf(" %d", len(p.remove))
		} else {
			for _, o := range p.remove {
				verb += " " + o.Name
			}
		}
		out = append(out, verb)
	}
	if len(p.create) > 0 {
		verb := "create"
		if p.create[0].index == noIndex {
			verb += fmt.Sprintf(" %d pods", len(p.create))
		} else {
			for _, s := range p.create {
				verb += fmt.Sprintf(" %d", s.index)
				if s.failures+s.ignored > 0 {
					verb += fmt.Sprintf(":%d+%d", s.failures, s.ignored)
				}
			}
		}
		out = append(out, verb)
	}
	if p.again > 0 {
		out = append(out, "again "+p.again.String())
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	all := func(lists ...[]*corev1.Pod) []*corev1.Pod { return slices.Concat(lists...) }
	pods := func(list ...*corev1.Pod) []*corev1.Pod { return list }
	for name, tc := range map[string]struct {
		job      *batchv1.Job
		pods     []*corev1.Pod
		creating int
		want     string
	}{
		"a new job":                           {job: job(sized(5, 2)), want: "create 2 pods"},
		"fewer left than may run":             {job: job(sized(5, 3), counted(4, 0)), want: "create 1 pods"},
		"one is running":                      {job: job(sized(5, 3)), pods: pods(one("a", ready)), want: "create 2 pods"},
		"enough are":                          {job: job(sized(5, 2)), pods: several(2, ready)},
		"what was made is not seen yet":       {job: job(sized(5, 3)), creating: 1},
		"a succeeded one that is not counted": {job: job(sized(3, 3)), pods: pods(one("a", succeeded)), want: "create 2 pods"},
		"one that is counted, and still has its finalizer": {job: job(sized(3, 3), func(j *batchv1.Job) {
			j.Status.UncountedTerminatedPods.Succeeded = []types.UID{"a"}
		}), pods: pods(one("a", succeeded)), want: "create 2 pods"},
		"parallelism was lowered":           {job: job(sized(9, 1)), pods: several(3), want: "dismiss p000 p001"},
		"parallelism of none":               {job: job(sized(9, 0)), pods: pods(one("a")), want: "dismiss a"},
		"pending ones go before ready ones": {job: job(sized(9, 1)), pods: pods(one("a", ready), one("b")), want: "dismiss b"},
		"at most so many at once":           {job: job(sized(2000, 1500)), want: "create 500 pods"},
		"nor deletes more":                  {job: job(sized(2000, 10)), pods: several(700), want: "dismiss 500"},
		"a job that is being deleted":       {job: job(sized(5, 2), deletedJob)},
		"and has failed":                    {job: job(sized(5, 2), deletedJob, counted(0, 9)), pods: several(2)},

		"a failed pod is replaced after a pause": {job: job(), pods: pods(one("a", justFailed)), want: "again 9s"},
		"and no other made meanwhile":            {job: job(sized(5, 3)), pods: pods(one("a", justFailed), one("b")), want: "again 9s"},
		"long after it failed":                   {job: job(), pods: pods(one("a", failed)), want: "create 1 pods"},
		"a going pod is replaced at once":        {job: job(), pods: pods(one("a", leaving)), want: "create 1 pods"},
		"or when it has ended":                   {job: job(patient), pods: pods(one("a", leaving))},
		"and has":                                {job: job(patient), pods: pods(one("a", leaving, failed)), want: "create 1 pods"},
		"beside one that goes":                   {job: job(patient, sized(5, 3)), pods: pods(one("a", leaving), one("b")), want: "create 1 pods"},

		"a work queue":               {job: job(queue(3)), pods: pods(one("a")), want: "create 2 pods"},
		"that has had a success":     {job: job(queue(3)), pods: pods(one("a", succeeded), one("b"))},
		"and is lowered after it":    {job: job(queue(0)), pods: pods(one("a", succeeded), one("b"))},
		"and has run out":            {job: job(queue(3)), pods: pods(one("a", succeeded)), want: "end true CompletionsReached"},
		"or not, as far as is seen":  {job: job(queue(3)), pods: pods(one("a", succeeded)), creating: 1},
		"lowered before any success": {job: job(queue(0)), pods: pods(one("b")), want: "dismiss b"},

		"suspended":                              {job: job(sized(5, 3), resting), pods: several(2), want: "dismiss p000 p001"},
		"suspended before pods are seen":         {job: job(sized(5, 3), resting), pods: several(1), creating: 1},
		"suspended from the start":               {job: job(sized(5, 3), resting)},
		"a deadline while suspended":             {job: job(resting, during(10))},
		"a deadline to come":                     {job: job(during(3700)), pods: several(1), want: "again 1m40s"},
		"a deadline before the pause ends":       {job: job(during(3605)), pods: pods(one("a", justFailed)), want: "again 5s"},
		"a deadline of a job that has not begun": {job: job(during(60), func(j *batchv1.Job) { j.Status.StartTime = nil }), want: "create 1 pods, again 1m0s"},
		"a deadline that is over":                {job: job(during(60)), pods: several(1), want: "end false DeadlineExceeded, delete p000"},

		"all done":                                 {job: job(sized(3, 2), counted(2, 0)), pods: pods(one("a", succeeded)), want: "end true CompletionsReached"},
		"nothing was asked for":                    {job: job(sized(0, 2)), want: "end true CompletionsReached"},
		"more than asked for runs":                 {job: job(sized(1, 2)), pods: pods(one("a", succeeded), one("b")), want: "end true CompletionsReached, dismiss b"},
		"too many failures":                        {job: job(limited(1), counted(0, 1)), pods: pods(one("a", failed), one("b")), want: "end false BackoffLimitExceeded, delete b"},
		"not too many":                             {job: job(limited(1)), pods: pods(one("a", failed)), want: "create 1 pods"},
		"going ones fail":                          {job: job(limited(0)), pods: pods(one("a", leaving)), want: "end false BackoffLimitExceeded"},
		"or not until they have ended":             {job: job(limited(0), patient), pods: pods(one("a", leaving))},
		"too many restarts":                        {job: job(limited(2), restartable), pods: pods(one("a", restarted(1)), one("b", restarted(1))), want: "end false BackoffLimitExceeded, delete a b"},
		"a single one with a limit of none":        {job: job(limited(0), restartable), pods: pods(one("a", restarted(1))), want: "end false BackoffLimitExceeded, delete a"},
		"restarts where pods are never restarted":  {job: job(limited(0)), pods: pods(one("a", restarted(5)))},
		"what was decided stays":                   {job: job(limited(9), being(batchv1.JobFailureTarget, "BackoffLimitExceeded")), pods: several(2), want: "end false BackoffLimitExceeded, delete p000 p001"},
		"success, too":                             {job: job(limited(0), counted(0, 5), being(batchv1.JobSuccessCriteriaMet, "SuccessPolicy")), want: "end true SuccessPolicy"},
		"a failure by rule":                        {job: job(ruled(onCode(failJob, in, 1))), pods: pods(one("a", failed)), want: "end false PodFailurePolicy"},
		"a failure that is ignored":                {job: job(limited(0), ruled(onCode(ignore, in, 1))), pods: pods(one("a", failed)), want: "create 1 pods"},
		"a going pod is not judged before its end": {job: job(ruled(onCode(failJob, in, 1))), pods: pods(one("a", leaving))},

		"indexes":                     {job: job(sized(4, 2), byIndex), want: "create 0 1"},
		"the next ones":               {job: job(sized(6, 3), byIndex, indexesAre("0,2", "")), pods: pods(one("a", index(1))), want: "create 3 4"},
		"one of each":                 {job: job(sized(4, 4), byIndex), pods: pods(one("a", index(1)), one("b", index(1), ready)), want: "dismiss a"},
		"beyond the last":             {job: job(sized(2, 2), byIndex), pods: pods(one("a", index(0)), one("b", index(7))), want: "dismiss b"},
		"without one":                 {job: job(sized(2, 2), byIndex), pods: pods(one("a")), want: "dismiss a"},
		"of an index that is done":    {job: job(sized(3, 2), byIndex, indexesAre("0", "")), pods: pods(one("a", index(0)), one("b", index(1))), want: "dismiss a"},
		"a success of an index twice": {job: job(sized(2, 2), byIndex, indexesAre("0", "")), pods: pods(one("a", index(0), succeeded)), want: "create 1"},
		"an index whose pod goes":     {job: job(sized(2, 2), byIndex), pods: pods(one("a", index(0), leaving), one("b", index(1))), want: "create 0"},
		"and must have gone":          {job: job(sized(2, 2), byIndex, patient), pods: pods(one("a", index(0), leaving), one("b", index(1)))},
		"all indexes are done":        {job: job(sized(2, 2), byIndex, indexesAre("0", "")), pods: pods(one("a", index(1), succeeded)), want: "end true CompletionsReached"},
		"shrunk to what is done":      {job: job(sized(1, 1), byIndex, indexesAre("0,3", "")), pods: pods(one("a", index(1))), want: "end true CompletionsReached, dismiss a"},
		"enough by policy":            {job: job(sized(3, 3), byIndex, enoughWith(1)), pods: pods(one("a", index(2), succeeded), one("b", index(0))), want: "end true SuccessPolicy, dismiss b"},

		"an index is tried again":            {job: job(sized(2, 2), limitedPerIndex(2, nil)), pods: pods(one("a", index(0), failed), one("b", index(1))), want: "create 0:1+0"},
		"again and again":                    {job: job(sized(1, 1), limitedPerIndex(9, nil)), pods: pods(one("a", index(0), failed, before(3, 1))), want: "create 0:4+1"},
		"after its own pause":                {job: job(sized(1, 1), limitedPerIndex(9, nil)), pods: pods(one("a", index(0), justFailed, before(1, 1))), want: "again 39s"},
		"which holds up no other":            {job: job(sized(3, 2), limitedPerIndex(9, nil)), pods: pods(one("a", index(0), justFailed)), want: "create 1 2"},
		"but is waited for":                  {job: job(sized(2, 2), limitedPerIndex(9, nil)), pods: pods(one("a", index(0), justFailed)), want: "create 1, again 9s"},
		"an ignored failure of an index":     {job: job(sized(1, 1), limitedPerIndex(0, nil), ruled(onCode(ignore, in, 1))), pods: pods(one("a", index(0), failed)), want: "create 0:0+1"},
		"an index has failed for good":       {job: job(sized(2, 1), limitedPerIndex(0, nil)), pods: pods(one("a", index(0), failed)), want: "create 1"},
		"and by rule":                        {job: job(sized(2, 1), limitedPerIndex(5, nil), ruled(onCode(failIndex, in, 1))), pods: pods(one("a", index(0), failed)), want: "create 1"},
		"the rest has succeeded":             {job: job(sized(2, 1), limitedPerIndex(0, nil), indexesAre("1", "")), pods: pods(one("a", index(0), failed)), want: "end false FailedIndexes"},
		"too many indexes have failed":       {job: job(sized(9, 2), limitedPerIndex(0, ptr.To[int32](1)), indexesAre("", "4")), pods: pods(one("a", index(0), failed), one("b", index(1))), want: "end false MaxFailedIndexesExceeded, delete b"},
		"as many as may":                     {job: job(sized(9, 1), limitedPerIndex(0, ptr.To[int32](1))), pods: pods(one("a", index(0), failed)), want: "create 1"},
		"the last failure of an index tells": {job: job(sized(1, 1), limitedPerIndex(9, nil)), pods: all(pods(one("a", index(0), failed)), pods(one("b", index(0), failed, before(1, 0)))), want: "create 0:2+0"},
	} {
		t.Run(name, func(t *testing.T) {
			v := seen(tc.job, tc.pods, tc.creating)
			if got := story(decide(v, look(v))); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func restartable(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }

func enoughWith(n int32) change {
	return func(j *batchv1.Job) {
		j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: &n}}}
	}
}

// book is what a pass writes at first and in the end, in words: "S" and "F" are the counters, in brackets the list.
func book(s *batchv1.JobStatus) string {
	text := fmt.Sprintf("S%d F%d", s.Succeeded, s.Failed)
	if u := s.UncountedTerminatedPods; len(u.Succeeded)+len(u.Failed) > 0 {
		text += fmt.Sprintf(" %v%v", u.Succeeded, u.Failed)
	}
	if s.CompletedIndexes != "" || s.FailedIndexes != nil {
		text += fmt.Sprintf(" %q/%q", s.CompletedIndexes, ptr.Deref(s.FailedIndexes, ""))
	}
	return text
}

func TestCounting(t *testing.T) {
	pods := func(list ...*corev1.Pod) []*corev1.Pod { return list }
	listed := func(succeeded, failed []types.UID) change {
		return func(j *batchv1.Job) {
			j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Succeeded: succeeded, Failed: failed}
		}
	}
	for name, tc := range map[string]struct {
		job   *batchv1.Job
		pods  []*corev1.Pod
		enter string // the first write
		strip string // whose finalizers go
		done  string // the second, when all have
	}{
		"nothing":                                   {job: job(), pods: several(1), enter: "S0 F0", done: "S0 F0"},
		"both ways":                                 {job(sized(9, 9)), pods(one("a", succeeded), one("b", failed), one("c")), "S0 F0 [a][b]", "a b", "S1 F1"},
		"without the finalizer it was counted":      {job(sized(9, 9), counted(1, 1)), pods(one("a", succeeded, free), one("b", failed, free)), "S1 F1", "", "S1 F1"},
		"it was entered, and the finalizer left":    {job(sized(9, 9), listed([]types.UID{"a"}, nil)), pods(one("a", succeeded)), "S0 F0 [a][]", "a", "S1 F0"},
		"it was entered, and the finalizer is gone": {job(sized(9, 9), listed([]types.UID{"a"}, []types.UID{"b"})), pods(one("a", succeeded, free)), "S1 F1", "", "S1 F1"},
		"it failed while going, and succeeded":      {job(sized(9, 9), listed(nil, []types.UID{"a"})), pods(one("a", succeeded)), "S0 F0 [][a]", "a", "S0 F1"},
		"a going pod fails":                         {job(sized(9, 9)), pods(one("a", leaving)), "S0 F0 [][a]", "a", "S0 F1"},
		"or when it ends":                           {job(sized(9, 9), patient), pods(one("a", leaving)), "S0 F0", "", "S0 F0"},
		"an ignored failure":                        {job(sized(9, 9), ruled(onCode(ignore, in, 1))), pods(one("a", failed)), "S0 F0", "a", "S0 F0"},
		"the end by failure takes all that go":      {job(sized(9, 9), patient, being(batchv1.JobFailureTarget, "x")), pods(one("a", leaving), one("b", succeeded)), "S0 F0 [b][a]", "a b", "S1 F1"},
		"the end by success waits for them":         {job(sized(9, 9), patient, being(batchv1.JobSuccessCriteriaMet, "x")), pods(one("a", leaving)), "S0 F0", "", "S0 F0"},
		"a job that is being deleted lets all go":   {job(sized(9, 9), deletedJob), pods(one("a"), one("b", succeeded)), "S0 F0 [b][]", "a b", "S1 F0"},
		"indexes":                              {job(sized(9, 9), byIndex), pods(one("a", index(2), succeeded), one("b", index(1), failed), one("c", index(0), succeeded)), `S2 F0 [][b] "0,2"/""`, "c b a", `S2 F1 "0,2"/""`},
		"an index twice":                       {job(sized(9, 9), byIndex, counted(1, 0), indexesAre("2", "")), pods(one("a", index(2), succeeded)), `S1 F0 "2"/""`, "a", `S1 F0 "2"/""`},
		"indexes that the job does not have":   {job(sized(2, 2), byIndex), pods(one("a", index(2), succeeded), one("b", index(3), failed)), "S0 F0", "a b", "S0 F0"},
		"the job shrank":                       {job(sized(2, 2), byIndex, counted(3, 0), indexesAre("1-3", "")), nil, `S1 F0 "1"/""`, "", `S1 F0 "1"/""`},
		"a failed pod waits for its successor": {job(sized(9, 9), limitedPerIndex(3, nil)), pods(one("a", index(0), failed)), `S0 F0 ""/""`, "", `S0 F0 ""/""`},
		"and goes when it is there":            {job(sized(9, 9), limitedPerIndex(3, nil)), pods(one("a", index(0), failed), one("b", index(0), before(1, 0))), `S0 F0 [][a] ""/""`, "a", `S0 F1 ""/""`},
		"or the index is lost":                 {job(sized(9, 9), limitedPerIndex(0, nil)), pods(one("a", index(4), failed)), `S0 F0 [][a] ""/"4"`, "a", `S0 F1 ""/"4"`},
		"a success for an index that is lost":  {job(sized(9, 9), limitedPerIndex(0, nil), indexesAre("", "4")), pods(one("a", index(4), succeeded)), `S0 F0 ""/"4"`, "a", `S0 F0 ""/"4"`},
	} {
		t.Run(name, func(t *testing.T) {
			v := seen(tc.job, tc.pods, 0)
			s := look(v)
			p := decide(v, s)
			st := nextStatus(v, s, p, numbers{})
			settle(tc.job, st, left(v, s))
			strip, _ := enter(v, s, p.ending, st)
			var names []string
			for _, o := range strip {
				names = append(names, o.Name)
			}
			if got := strings.Join(names, " "); book(st) != tc.enter || got != tc.strip {
				t.Errorf("enters %s and strips %q, want %s and %q", book(st), got, tc.enter, tc.strip)
			}
			for _, o := range strip {
				v.stripped[o.UID] = true
			}
			if settle(tc.job, st, left(v, s)); book(st) != tc.done {
				t.Errorf("in the end %s, want %s", book(st), tc.done)
			}
		})
	}
}

func TestCountsSoManyAtOnce(t *testing.T) {
	v := seen(job(sized(2000, 2000)), several(1200, succeeded), 0)
	s := look(v)
	p := decide(v, s)
	st := nextStatus(v, s, p, numbers{})
	strip, _ := enter(v, s, p.ending, st)
	if len(strip) != burst || len(st.UncountedTerminatedPods.Succeeded) != burst {
		t.Errorf("strips %d, lists %d", len(strip), len(st.UncountedTerminatedPods.Succeeded))
	}
	if s.succeeded != 1200 {
		t.Errorf("%d have succeeded, as far as is decided on", s.succeeded)
	}
}

func TestConditions(t *testing.T) {
	told := func(j *batchv1.Job, pods []*corev1.Pod, creating int) *batchv1.JobStatus {
		v := seen(j, pods, creating)
		s := look(v)
		p := decide(v, s)
		st := nextStatus(v, s, p, numbers{})
		if p.ending != nil && len(pods) == 0 && ended(v, s, p, st) {
			finish(st, *p.ending, noon)
		}
		return st
	}
	resumed := func(j *batchv1.Job) { j.Spec.Suspend, j.Status.StartTime = ptr.To(false), nil }
	unstarted := func(j *batchv1.Job) { j.Status.StartTime = nil }
	for name, tc := range map[string]struct {
		status *batchv1.JobStatus
		want   string
		start  time.Time
	}{
		"at work":                    {told(job(), nil, 0), "", noon.Add(-time.Hour)},
		"begins":                     {told(job(unstarted), nil, 0), "", noon},
		"suspended":                  {told(job(resting), nil, 0), "Suspended=True JobSuspended", time.Time{}},
		"suspended, pods unseen":     {told(job(resting), nil, 1), "", noon.Add(-time.Hour)},
		"never begun":                {told(job(resting, unstarted), nil, 0), "Suspended=True JobSuspended", time.Time{}},
		"resumed":                    {told(job(resting, being(batchv1.JobSuspended, "JobSuspended"), resumed), nil, 0), "Suspended=False JobResumed", noon},
		"about to fail":              {told(job(limited(0), counted(0, 1)), several(1), 0), "FailureTarget=True BackoffLimitExceeded", noon.Add(-time.Hour)},
		"failed":                     {told(job(limited(0), counted(0, 1)), nil, 0), "FailureTarget=True BackoffLimitExceeded, Failed=True BackoffLimitExceeded", noon.Add(-time.Hour)},
		"not while a pod may appear": {told(job(limited(0), counted(0, 1)), nil, 1), "FailureTarget=True BackoffLimitExceeded", noon.Add(-time.Hour)},
		"about to be complete":       {told(job(), several(1, succeeded), 0), "SuccessCriteriaMet=True CompletionsReached", noon.Add(-time.Hour)},
		"complete":                   {told(job(counted(1, 0)), nil, 0), "SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached", noon.Add(-time.Hour)},
		"complete before it began":   {told(job(sized(0, 1), resting, unstarted), nil, 0), "SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached", noon},
		"being deleted":              {told(job(deletedJob, unstarted), nil, 0), "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			var said []string
			for _, c := range tc.status.Conditions {
				said = append(said, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
			}
			var start time.Time
			if tc.status.StartTime != nil {
				start = tc.status.StartTime.Time
			}
			if got := strings.Join(said, ", "); got != tc.want || !start.Equal(tc.start) {
				t.Errorf("%q since %v, want %q since %v", got, start, tc.want, tc.start)
			}
			if complete := holds(tc.status, batchv1.JobComplete); complete != (tc.status.CompletionTime != nil) {
				t.Errorf("completed at %v", tc.status.CompletionTime)
			}
		})
	}
	kept := told(job(resting, being(batchv1.JobSuspended, "JobSuspended"), func(j *batchv1.Job) {
		j.Status.Conditions[0].Message, j.Status.Conditions[0].LastProbeTime = "Job suspended", metav1.NewTime(noon.Add(-time.Minute))
	}), nil, 0)
	if !kept.Conditions[0].LastProbeTime.Equal(&metav1.Time{Time: noon.Add(-time.Minute)}) {
		t.Error("a condition that says the same was written again")
	}
}

func TestNewPod(t *testing.T) {
	j := job(limitedPerIndex(3, nil), func(j *batchv1.Job) {
		j.Name = strings.Repeat("long", 15)
		s := &j.Spec.Template.Spec
		s.InitContainers = []corev1.Container{{Name: "i", Env: []corev1.EnvVar{{Name: "A", Value: "b"}}}}
		s.Containers = append(s.Containers, corev1.Container{Name: "own", Env: []corev1.EnvVar{{Name: "JOB_COMPLETION_INDEX", Value: "mine"}}})
	})
	p := newPod(j, slot{12, 2, 1})
	if p.GenerateName != strings.Repeat("long", 15)[:54]+"-12-" || p.Spec.Hostname != j.Name+"-12" || !guarded(p) {
		t.Errorf("%s on %s, %v", p.GenerateName, p.Spec.Hostname, p.Finalizers)
	}
	for _, m := range []map[string]string{p.Labels, p.Annotations} {
		if m["batch.kubernetes.io/job-completion-index"] != "12" {
			t.Errorf("%v", m)
		}
	}
	if p.Annotations["batch.kubernetes.io/job-index-failure-count"] != "2" || p.Annotations["batch.kubernetes.io/job-index-ignored-failure-count"] != "1" {
		t.Errorf("%v", p.Annotations)
	}
	env := slices.Concat(p.Spec.InitContainers[0].Env, p.Spec.Containers[0].Env, p.Spec.Containers[1].Env)
	if len(env) != 4 || env[1].ValueFrom.FieldRef.FieldPath != "metadata.labels['batch.kubernetes.io/job-completion-index']" || env[2].Name != "JOB_COMPLETION_INDEX" || env[3].Value != "mine" {
		t.Errorf("%v", env)
	}
	if len(j.Spec.Template.Spec.Containers[0].Env) > 0 {
		t.Error("the template was changed")
	}
	plain := newPod(job(), slot{index: noIndex})
	if plain.GenerateName != "sum-" || plain.Spec.Hostname != "" || len(plain.Spec.Containers[0].Env) > 0 || !guarded(plain) || len(plain.Annotations) > 0 {
		t.Errorf("%+v", plain)
	}
	if fresh := newPod(j, slot{index: 3}); fresh.Annotations[failureCount] != "0" || fresh.Annotations[ignoredCount] != "" {
		t.Errorf("%v", fresh.Annotations)
	}
}
