package deployment

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func deploy(replicas int32, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	limit, patience := int32(10), int32(600)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template:             corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
			RevisionHistoryLimit: &limit, ProgressDeadlineSeconds: &patience,
		},
	}
	rolling("25%", "25%")(d)
	for _, c := range change {
		c(d)
	}
	return d
}

func rolling(surge, lack string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		s, l := intstr.Parse(surge), intstr.Parse(lack)
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &l}}
	}
}

func recreating(d *appsv1.Deployment) {
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
}

func image(v string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = v }
}

// cluster plays the API server and the ReplicaSet controller for one Deployment.
type cluster struct {
	t    *testing.T
	d    *appsv1.Deployment
	sets []*appsv1.ReplicaSet
	now  time.Time
}

func newCluster(t *testing.T, d *appsv1.Deployment) *cluster { return &cluster{t: t, d: d, now: start} }

// step decides once and writes what was decided. It says whether anything but the status changed.
func (c *cluster) step() (plan, bool) {
	c.t.Helper()
	p := decide(c.d, c.sets, c.now)
	moved := p.create != nil
	for _, ch := range p.changes {
		if *ch.have.Spec.Replicas != *ch.want.Spec.Replicas {
			ch.want.Generation++
			moved = true
		}
		for i := range c.sets {
			if c.sets[i] == ch.have {
				c.sets[i] = ch.want
			}
		}
	}
	if p.create != nil {
		p.create.UID, p.create.Generation = types.UID(p.create.Name), 1
		p.create.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(len(c.sets)) * time.Second))
		c.sets = append(c.sets, p.create)
	}
	for _, gone := range p.remove {
		for i := range c.sets {
			if c.sets[i].UID == gone.UID {
				c.sets = append(c.sets[:i], c.sets[i+1:]...)
				moved = true
				break
			}
		}
	}
	setAnnotation(c.d, revisionAnnotation, p.revision)
	c.d.Status = p.status
	return p, moved
}

// pods lets the ReplicaSet controller act: unready pods go first; new ones become available if ready says so.
func (c *cluster) pods(ready func(*appsv1.ReplicaSet) bool) {
	for i, rs := range c.sets {
		rs = rs.DeepCopy()
		s := &rs.Status
		s.ObservedGeneration, s.Replicas = rs.Generation, *rs.Spec.Replicas
		s.AvailableReplicas = min(s.AvailableReplicas, s.Replicas)
		if ready(rs) {
			s.AvailableReplicas = s.Replicas
		}
		s.ReadyReplicas = s.AvailableReplicas
		none := int32(0)
		s.TerminatingReplicas = &none
		c.sets[i] = rs
	}
}

func all(*appsv1.ReplicaSet) bool { return true }

// settle steps until nothing moves any more.
func (c *cluster) settle(ready func(*appsv1.ReplicaSet) bool) {
	c.t.Helper()
	for range 200 {
		_, moved := c.step()
		before := *c.d.Status.DeepCopy()
		c.pods(ready)
		p, more := c.step()
		if !moved && !more && equality.Semantic.DeepEqual(p.status, before) {
			return
		}
	}
	c.t.Fatal("does not settle in 200 steps")
}

func (c *cluster) change(f ...func(*appsv1.Deployment)) {
	for _, g := range f {
		g(c.d)
	}
	c.d.Generation++
}

func (c *cluster) reason() string {
	if p := find(&c.d.Status, appsv1.DeploymentProgressing); p != nil {
		return p.Reason
	}
	return ""
}

// TestRollingNeverBreaksItsLimits walks whole rollouts and checks after every write that what is available and what there is
// stay within the limits, whichever pods come up in which round.
func TestRollingNeverBreaksItsLimits(t *testing.T) {
	for _, n := range []int32{1, 2, 3, 4, 5, 10, 17} {
		for _, surge := range []string{"0", "1", "3", "25%", "100%"} {
			for _, lack := range []string{"0", "1", "2", "25%", "100%"} {
				t.Run(fmt.Sprintf("%d replicas, surge %s, unavailable %s", n, surge, lack), func(t *testing.T) {
					c := newCluster(t, deploy(n, rolling(surge, lack)))
					c.settle(all)
					c.change(image("v2"))
					most, least := n, n
					s, l := limits(c.d)
					most, least = most+s, least-l
					done := false
					for range 400 {
						_, moved := c.step()
						var there, serving int32
						for _, rs := range c.sets {
							there += *rs.Spec.Replicas
							serving += available(rs)
						}
						if there > most {
							t.Fatalf("%d replicas, at most %d may be", there, most)
						}
						if serving < least {
							t.Fatalf("%d available, at least %d must be", serving, least)
						}
						c.pods(all)
						if !moved && complete(c.d, &c.d.Status) {
							done = true
							break
						}
					}
					if !done {
						t.Fatalf("not done: %+v", c.d.Status)
					}
					if c.d.Annotations[revisionAnnotation] != "2" || len(c.sets) != 2 {
						t.Errorf("revision %q with %d sets", c.d.Annotations[revisionAnnotation], len(c.sets))
					}
				})
			}
		}
	}
}

func TestRollingStopsAtABadTemplate(t *testing.T) {
	c := newCluster(t, deploy(10))
	c.settle(all)
	c.change(image("broken"))
	old := c.sets[0].Name
	c.settle(func(rs *appsv1.ReplicaSet) bool { return rs.Name == old })
	// surge 3 (25 % up), unavailable 2 (25 % down): 8 old ones stay, 5 new ones wait
	if a, b := *c.sets[0].Spec.Replicas, *c.sets[1].Spec.Replicas; a != 8 || b != 5 {
		t.Errorf("%d old and %d new, want 8 and 5", a, b)
	}
	if c.reason() == reasonAvailable {
		t.Error("says the new set is available")
	}
	t.Run("and says so after the deadline", func(t *testing.T) {
		p := decide(c.d, c.sets, c.now)
		if p.again != 600*time.Second {
			t.Errorf("looks again after %v, want the deadline", p.again)
		}
		c.now = c.now.Add(601 * time.Second)
		c.step()
		got := find(&c.d.Status, appsv1.DeploymentProgressing)
		if got.Reason != reasonTimedOut || got.Status != corev1.ConditionFalse {
			t.Errorf("%+v", got)
		}
	})
	t.Run("and goes back on undo", func(t *testing.T) {
		c.change(image("v1"))
		c.settle(all)
		if a, b := *c.sets[0].Spec.Replicas, *c.sets[1].Spec.Replicas; a != 10 || b != 0 {
			t.Errorf("%d old and %d new, want 10 and 0", a, b)
		}
		an := c.sets[0].Annotations
		if an[revisionAnnotation] != "3" || an[historyAnnotation] != "1" || c.d.Annotations[revisionAnnotation] != "3" {
			t.Errorf("annotations %v of the set, %v of the deployment", an, c.d.Annotations)
		}
		if c.reason() != reasonAvailable {
			t.Errorf("Progressing says %s", c.reason())
		}
	})
}

func TestDeadStalePodsGoFirst(t *testing.T) {
	c := newCluster(t, deploy(10, rolling("0", "2")))
	c.settle(all)
	c.sets[0].Status.AvailableReplicas = 4 // six are broken
	c.change(image("v2"))
	c.step()
	// at least 8 must be available; only 4 are: two of the dead may go, none of the living
	if n := *c.sets[0].Spec.Replicas; n != 8 {
		t.Errorf("%d stale replicas, want 8", n)
	}
}

func TestRecreateWaitsForTheLastPod(t *testing.T) {
	c := newCluster(t, deploy(3, recreating))
	c.settle(all)
	c.change(image("v2"))
	if p, _ := c.step(); p.create != nil || *c.sets[0].Spec.Replicas != 0 {
		t.Fatal("does not end the old pods first")
	}
	if p, _ := c.step(); p.create != nil {
		t.Fatal("starts new pods before the old set saw its new number")
	}
	c.pods(all)
	two := int32(2)
	c.sets[0].Status.TerminatingReplicas = &two
	if p, _ := c.step(); p.create != nil {
		t.Fatal("starts new pods while old ones are ending")
	}
	c.pods(all)
	if p, _ := c.step(); p.create == nil || *p.create.Spec.Replicas != 3 {
		t.Fatal("does not start the new pods once the old ones are gone")
	}
	c.settle(all)
	if c.reason() != reasonAvailable {
		t.Errorf("Progressing says %s", c.reason())
	}
}

func TestScaling(t *testing.T) {
	wish := func(n int32) func(*appsv1.Deployment) { return func(d *appsv1.Deployment) { d.Spec.Replicas = &n } }
	t.Run("one set takes all", func(t *testing.T) {
		c := newCluster(t, deploy(3))
		c.settle(all)
		c.change(wish(7))
		c.settle(all)
		if n := *c.sets[0].Spec.Replicas; n != 7 {
			t.Errorf("%d", n)
		}
		if c.sets[0].Annotations[desiredAnnotation] != "7" || c.sets[0].Annotations[maxAnnotation] != "9" {
			t.Errorf("annotations %v", c.sets[0].Annotations)
		}
		if c.reason() != reasonAvailable {
			t.Errorf("scaling a complete Deployment made Progressing say %s", c.reason())
		}
	})
	t.Run("to nothing and back", func(t *testing.T) {
		c := newCluster(t, deploy(3))
		c.settle(all)
		c.change(wish(0))
		c.settle(all)
		if n := *c.sets[0].Spec.Replicas; n != 0 {
			t.Errorf("%d", n)
		}
		c.change(wish(2))
		c.settle(all)
		if n := *c.sets[0].Spec.Replicas; n != 2 {
			t.Errorf("%d", n)
		}
	})
	for name, tc := range map[string]struct {
		before, after []int32 // replicas, oldest first
		from, to      int32
		surge         string // where it is not a quarter
	}{
		"up in proportion":          {[]int32{5, 8}, []int32{7, 12}, 10, 15, ""}, // 13 with surge 3, then 19 with surge 4
		"down in proportion":        {[]int32{5, 8}, []int32{3, 4}, 10, 5, ""},   // then 7
		"to nothing":                {[]int32{5, 8}, []int32{0, 0}, 10, 0, ""},
		"of equals the newer gains": {[]int32{2, 2}, []int32{2, 3}, 3, 4, ""},
		"to nothing, with a surge":  {[]int32{5, 8}, []int32{0, 0}, 10, 0, "3"},
		"three templates":           {[]int32{2, 3, 7}, []int32{3, 6, 13}, 10, 20, "2"}, // 12 with surge 2, then 22: 13 (12.8), 6 (5.5), and what is left of 4 (3.7)
		"by one":                    {[]int32{4, 8}, []int32{4, 9}, 10, 11, "2"},
	} {
		t.Run(name+", amid a rollout", func(t *testing.T) {
			d := deploy(tc.from)
			if tc.surge != "" {
				rolling(tc.surge, "2")(d)
			}
			r := newRollout(d, nil)
			var sets []*appsv1.ReplicaSet
			for i, n := range tc.before {
				if i == len(tc.before)-1 {
					image("v2")(d)
				}
				rs := r.makeSet(fmt.Sprint(i + 1))
				rs.Spec.Replicas = &n
				rs.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(i) * time.Second))
				sets = append(sets, rs)
			}
			c := newCluster(t, d)
			c.sets = sets
			c.change(wish(tc.to))
			c.step()
			for i, n := range tc.after {
				if got := *c.sets[i].Spec.Replicas; got != n {
					t.Errorf("set %d has %d, want %d", i, got, n)
				}
			}
		})
	}
}

func TestPause(t *testing.T) {
	c := newCluster(t, deploy(3))
	c.settle(all)
	c.change(image("v2"), func(d *appsv1.Deployment) { d.Spec.Paused = true })
	c.settle(all)
	if len(c.sets) != 1 || c.reason() != reasonPaused {
		t.Errorf("%d sets, Progressing says %s", len(c.sets), c.reason())
	}
	five := int32(5)
	c.change(func(d *appsv1.Deployment) { d.Spec.Replicas = &five })
	c.settle(all)
	if n := *c.sets[0].Spec.Replicas; n != 5 {
		t.Errorf("a paused Deployment scales to %d, want 5", n)
	}
	c.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.settle(all)
	if len(c.sets) != 2 || *c.sets[1].Spec.Replicas != 5 || c.reason() != reasonAvailable {
		t.Errorf("%d sets, Progressing says %s", len(c.sets), c.reason())
	}
}

func TestHistory(t *testing.T) {
	two := int32(2)
	c := newCluster(t, deploy(1, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &two }))
	for i := range 6 {
		c.change(image(fmt.Sprint("v", i)))
		c.settle(all)
	}
	if len(c.sets) != 3 {
		t.Fatalf("%d sets, want the present and two", len(c.sets))
	}
	for i, want := range []string{"4", "5", "6"} {
		if got := c.sets[i].Annotations[revisionAnnotation]; got != want {
			t.Errorf("set %d is of revision %s, want %s", i, got, want)
		}
	}
}

func TestQuietWhenDone(t *testing.T) {
	c := newCluster(t, deploy(3))
	c.settle(all)
	p := decide(c.d, c.sets, c.now.Add(time.Hour))
	for _, ch := range p.changes {
		if !equality.Semantic.DeepEqual(ch.have, ch.want) {
			t.Errorf("changes %s", ch.have.Name)
		}
	}
	if p.create != nil || p.remove != nil || p.again != 0 || !equality.Semantic.DeepEqual(p.status, c.d.Status) {
		t.Errorf("%+v", p)
	}
}

func TestTemplateHash(t *testing.T) {
	a, b := deploy(1), deploy(1, image("v2"))
	one := int32(1)
	if templateHash(&a.Spec.Template, nil) != templateHash(deploy(5).Spec.Template.DeepCopy(), nil) {
		t.Error("equal templates, different names")
	}
	if templateHash(&a.Spec.Template, nil) == templateHash(&b.Spec.Template, nil) {
		t.Error("different templates, one name")
	}
	if templateHash(&a.Spec.Template, nil) == templateHash(&a.Spec.Template, &one) {
		t.Error("a collision does not change the name")
	}
}

func TestAnnotationsGoToTheSetButOurs(t *testing.T) {
	c := newCluster(t, deploy(1, func(d *appsv1.Deployment) {
		d.Annotations = map[string]string{"kubernetes.io/change-cause": "first", corev1.LastAppliedConfigAnnotation: "{}"}
	}))
	c.settle(all)
	an := c.sets[0].Annotations
	if an["kubernetes.io/change-cause"] != "first" || an[corev1.LastAppliedConfigAnnotation] != "" || an[revisionAnnotation] != "1" {
		t.Errorf("%v", an)
	}
}

func TestAvailability(t *testing.T) {
	c := newCluster(t, deploy(4)) // three must be there
	c.settle(all)
	for have, want := range map[int32]corev1.ConditionStatus{4: corev1.ConditionTrue, 3: corev1.ConditionTrue, 2: corev1.ConditionFalse} {
		c.sets[0].Status.AvailableReplicas = have
		p := decide(c.d, c.sets, c.now)
		if got := find(&p.status, appsv1.DeploymentAvailable); got.Status != want {
			t.Errorf("%d of 4 available: %+v", have, got)
		}
	}
}
