package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

// The model is an API server with one job and its pods, in which every state that ever was can still be read, kubelets that
// do as they please, and controllers that see old states and end between any two writes. It watches that nothing is counted
// twice, or never, and that no pod too many runs. It is not used by two goroutines at once.
type model struct {
	t   *testing.T
	rnd *rand.Rand
	now time.Time
	rev int

	job  *batchv1.Job
	jobs []version[*batchv1.Job]
	pods map[types.UID]*corev1.Pod
	logs map[types.UID][]version[*corev1.Pod]

	entered   map[types.UID]bool // UIDs that were ever in the list
	made      int
	most      int               // pods that may run at once
	dismissed int               // pods that lost the finalizer without being counted
	done      map[int]types.UID // which pod an index succeeded by
	doubles   int               // pods that succeeded for an index that another has succeeded for
	calm      bool
	rules     rules
	trace     []event

	*life       // of the controller whose turn it is
	other *life // another that believes to lead, if there is one
}

// life is a controller's, and what it sees.
type life struct {
	c                *controller
	dead             bool
	jobSeen, podSeen int
}

// event is a line of what happened, put into words only when something is wrong.
type event struct {
	rev    int
	format string
	args   []any
}

type version[T any] struct {
	rev int
	is  T // nil pointer: gone
}

// rules are what may happen in a run.
type rules struct {
	failures, deletions, suspending, resizing, ending bool
	rivals                                            bool // two controllers may be alive at once
	crashes                                           float64
}

var errDead = errors.New("the controller has ended")

func newModel(t *testing.T, seed uint64, j *batchv1.Job, r rules) *model {
	m := &model{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), rules: r,
		pods: map[types.UID]*corev1.Pod{}, logs: map[types.UID][]version[*corev1.Pod]{}, entered: map[types.UID]bool{}, done: map[int]types.UID{},
		most: int(*j.Spec.Parallelism),
	}
	j.CreationTimestamp = metav1.NewTime(m.now)
	m.setJob(j)
	m.start()
	return m
}

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, event{m.rev, format, args})
}

func (m *model) wrong(format string, args ...any) {
	m.t.Helper()
	for _, e := range m.trace {
		m.t.Logf("%d: "+e.format, append([]any{e.rev}, e.args...)...)
	}
	m.t.Fatalf(format, args...)
}

func (m *model) setJob(j *batchv1.Job) {
	m.rev++
	j.ResourceVersion = strconv.Itoa(m.rev)
	m.job = j
	m.jobs = append(m.jobs, version[*batchv1.Job]{m.rev, j})
}

// setPod stores a pod's next state; one that is going, has ended and has no finalizer is gone.
func (m *model) setPod(p *corev1.Pod) {
	m.rev++
	p.ResourceVersion = strconv.Itoa(m.rev)
	if p.DeletionTimestamp != nil && len(p.Finalizers) == 0 && pod.Terminal(p) {
		delete(m.pods, p.UID)
		m.logs[p.UID] = append(m.logs[p.UID], version[*corev1.Pod]{rev: m.rev})
		return
	}
	m.pods[p.UID] = p
	m.logs[p.UID] = append(m.logs[p.UID], version[*corev1.Pod]{m.rev, p})
}

func (m *model) change(p *corev1.Pod, fn func(*corev1.Pod)) {
	p = p.DeepCopy()
	fn(p)
	m.setPod(p)
}

func at[T any](log []version[T], rev int) (is T) {
	for _, v := range log {
		if v.rev <= rev {
			is = v.is
		}
	}
	return is
}

// start lets another controller begin, whose caches may be old.
func (m *model) start() {
	m.life = &life{jobSeen: m.past(), podSeen: m.past()}
	m.note("a controller begins, seeing job %d and pods %d", m.jobSeen, m.podSeen)
	m.c = &controller{
		world: m, recorder: &record.FakeRecorder{}, metrics: newMetrics(nil), began: m.now, ledger: podset.NewLedger(), memory: newMemory(),
		many: func(ctx context.Context, n int, fn func(context.Context, int) error) (int, error) {
			for i := range n {
				if err := fn(ctx, i); err != nil {
					return i, err
				}
			}
			return n, nil
		},
		side: func(n int, fn func(int) error) (err error) {
			for i := range n {
				err = errors.Join(err, fn(i))
			}
			return err
		},
	}
}

func (m *model) past() int {
	if m.calm || m.rnd.IntN(3) == 0 {
		return m.rev
	}
	return max(1, m.rev-m.rnd.IntN(25))
}

func (m *model) chance(p float64) bool { return !m.calm && m.rnd.Float64() < p }

// step lets the caches come nearer to the truth, some time pass, and the controller look once.
func (m *model) step() {
	m.now = m.now.Add(time.Duration(m.rnd.IntN(40)) * time.Second)
	switch {
	case m.calm:
		m.other = nil
	case m.other != nil:
		if m.life, m.other = m.other, m.life; m.chance(0.2) {
			m.other = nil
		}
	case m.chance(0.1) && m.rules.rivals:
		m.note("a rival")
		m.other = m.life
		m.start()
	}
	if m.calm {
		m.now = m.now.Add(10 * time.Minute)
		m.jobSeen, m.podSeen = m.rev, m.rev
	} else {
		m.jobSeen += m.rnd.IntN(m.rev - m.jobSeen + 1)
		m.podSeen += m.rnd.IntN(m.rev - m.podSeen + 1)
	}
	for range 3 {
		m.live1()
	}
	if m.dead {
		m.start()
	}
	j := at(m.jobs, m.jobSeen)
	var pods []*corev1.Pod
	for _, uid := range sortedKeys(m.logs) {
		if p := at(m.logs[uid], m.podSeen); p != nil {
			pods = append(pods, p)
		}
	}
	var err error
	if finished(j) {
		err = m.c.tidy(context.Background(), j, pods)
	} else {
		_, err = m.c.pass(context.Background(), j, pods, strconv.Itoa(m.podSeen), m.now)
	}
	if err != nil && !errors.Is(err, errDead) && !errors.Is(err, loop.ErrStale) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		m.wrong("a pass failed: %v", err)
	}
}

func sortedKeys[V any](all map[types.UID]V) []types.UID {
	var keys []types.UID
	for k := range all {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// live1 is one thing that happens to the pods or the job without the controller.
func (m *model) live1() {
	keys := sortedKeys(m.pods)
	if m.chance(0.03) && m.rules.suspending && !finished(m.job) {
		j := m.job.DeepCopy()
		j.Spec.Suspend = ptr.To(!suspended(j))
		m.note("suspend: %v", *j.Spec.Suspend)
		m.setJob(j)
	}
	if m.chance(0.03) && m.rules.resizing && !finished(m.job) {
		j := m.job.DeepCopy()
		n := int32(m.rnd.IntN(6))
		j.Spec.Parallelism = &n
		m.most = max(m.most, int(n))
		m.note("parallelism: %d", n)
		m.setJob(j)
	}
	if m.chance(0.01) && m.rules.ending && m.job.DeletionTimestamp == nil {
		m.note("the job is deleted")
		j := m.job.DeepCopy()
		j.DeletionTimestamp = &metav1.Time{Time: m.now}
		m.setJob(j)
	}
	if len(keys) == 0 {
		return
	}
	p := m.pods[keys[m.rnd.IntN(len(keys))]]
	if m.calm { // every pod comes to a good end
		for _, uid := range keys {
			if p := m.pods[uid]; !pod.Terminal(p) {
				m.end(p, corev1.PodSucceeded)
			} else if p.DeletionTimestamp != nil {
				m.setPod(p.DeepCopy())
			}
		}
		return
	}
	switch n := m.rnd.IntN(10); {
	case pod.Terminal(p):
		if n == 0 && m.rules.deletions && p.DeletionTimestamp == nil { // people tidy up
			m.note("deleted: finished %s", p.UID)
			m.change(p, m.going)
		}
	case p.Status.Phase == corev1.PodPending && n < 5:
		m.change(p, func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning })
	case n == 5 && m.rules.failures:
		m.end(p, corev1.PodFailed)
	case n == 6 && m.rules.deletions && p.DeletionTimestamp == nil:
		m.note("deleted: %s", p.UID)
		m.change(p, m.going)
	case n == 7 || n == 8:
		m.end(p, corev1.PodSucceeded)
	}
}

func (m *model) going(p *corev1.Pod) {
	t := metav1.NewTime(m.now)
	p.DeletionTimestamp = &t
}

func (m *model) end(p *corev1.Pod, phase corev1.PodPhase) {
	m.note("%s ends %s", p.UID, phase)
	m.change(p, func(p *corev1.Pod) {
		p.Status.Phase = phase
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(m.now)}}}}
	})
}

// write does a controller's write, before or after which the controller may end, and while which the world goes on.
func (m *model) write(what string, do func() error) error {
	if m.dead {
		return errDead
	}
	if m.chance(0.3) {
		m.live1()
	}
	if m.chance(m.rules.crashes) {
		m.note("the controller ends before: %s", what)
		m.dead = true
		return errDead
	}
	err := do()
	m.note("%s: %v", what, err)
	if m.chance(m.rules.crashes) {
		m.note("the controller ends")
		m.dead = true
		return errDead
	}
	return err
}

var (
	podKind = schema.GroupResource{Resource: "pods"}
	jobKind = schema.GroupResource{Group: "batch", Resource: "jobs"}
)

func (m *model) create(_ context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	err := m.write("create "+p.GenerateName, func() error {
		m.made++
		p = p.DeepCopy()
		p.UID = types.UID(fmt.Sprintf("pod-%04d", m.made))
		p.Name = string(p.UID)
		p.CreationTimestamp = metav1.NewTime(m.now)
		p.Status.Phase = corev1.PodPending
		m.setPod(p)
		running := map[int]int{}
		n := 0
		for _, o := range m.pods {
			if pod.Active(o) || waits(m.job) && !pod.Terminal(o) {
				n++
				running[indexOf(o)]++
			}
		}
		if n > m.most && !m.rules.rivals {
			m.wrong("%d pods run, %d may", n, m.most)
		}
		if i := indexOf(p); indexed(m.job) && running[i] > 1 && !m.rules.rivals {
			m.wrong("%d pods run for index %d", running[i], i)
		}
		return nil
	})
	return p, err
}

func (m *model) find(p *corev1.Pod) (*corev1.Pod, error) {
	if is := m.pods[p.UID]; is != nil {
		return is, nil
	}
	return nil, apierrors.NewNotFound(podKind, p.Name)
}

func (m *model) remove(_ context.Context, p *corev1.Pod) error {
	return m.write("delete "+p.Name, func() error {
		is, err := m.find(p)
		if err == nil && is.DeletionTimestamp == nil {
			m.change(is, m.going)
		}
		return err
	})
}

func (m *model) guard(_ context.Context, p *corev1.Pod, on bool) error {
	return m.write(fmt.Sprintf("guard %s %v", p.Name, on), func() error {
		is, err := m.find(p)
		switch {
		case err != nil:
			return err
		case on && is.ResourceVersion != p.ResourceVersion:
			return apierrors.NewConflict(podKind, p.Name, errors.New("it has changed"))
		case on == guarded(is):
			return nil
		}
		if on {
			m.dismissed-- // and taken back
		} else {
			m.leaves(p, is)
		}
		m.change(is, func(o *corev1.Pod) {
			o.Finalizers = nil
			if on {
				o.Finalizers = []string{batchv1.JobTrackingFinalizer}
			}
		})
		return nil
	})
}

func (m *model) commit(_ context.Context, have, want *batchv1.Job) (*batchv1.Job, error) {
	if have.ResourceVersion == want.ResourceVersion && sameCounts(&have.Status, &want.Status) && onlyNumbers(&have.Status, &want.Status) &&
		have.Status.Active == want.Status.Active && ptr.Equal(have.Status.Ready, want.Status.Ready) && ptr.Equal(have.Status.Terminating, want.Status.Terminating) &&
		ptr.Equal(have.Status.CompletionTime, want.Status.CompletionTime) {
		return have, nil
	}
	var got *batchv1.Job
	err := m.write("status", func() error {
		if have.ResourceVersion != m.job.ResourceVersion {
			return apierrors.NewConflict(jobKind, have.Name, errors.New("it has changed"))
		}
		m.note("succeeded %d %q, failed %d, uncounted %v, %d active, conditions %v", want.Status.Succeeded, want.Status.CompletedIndexes, want.Status.Failed, want.Status.UncountedTerminatedPods, want.Status.Active, want.Status.Conditions)
		m.check(&m.job.Status, &want.Status)
		got = want.DeepCopy()
		m.setJob(got)
		return nil
	})
	if err != nil {
		return have, err
	}
	return got, nil
}

func (m *model) over(s *batchv1.JobStatus) bool {
	return holds(s, batchv1.JobComplete) || holds(s, batchv1.JobFailed)
}

func (m *model) live(context.Context, *batchv1.Job) (*batchv1.Job, *corev1.PodList, error) {
	if m.dead {
		return nil, nil, errDead
	}
	all := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(m.rev)}}
	for _, uid := range sortedKeys(m.pods) {
		all.Items = append(all.Items, *m.pods[uid])
	}
	return m.job, all, nil
}
