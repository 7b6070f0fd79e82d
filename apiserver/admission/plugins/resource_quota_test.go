package plugins

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/quota"
)

// quotaStore is the quotas of one namespace: what is read may be old, what is written is not.
type quotaStore struct {
	mu      sync.Mutex
	seen    []*corev1.ResourceQuota          // guarded by mu: what reads give
	stored  map[string]*corev1.ResourceQuota // guarded by mu
	writes  atomic.Int64
	slow    time.Duration // of a write
	fail    error         // of a write
	failing string        // the quota whose writes fail
}

func newQuotaStore(quotas ...*corev1.ResourceQuota) *quotaStore {
	s := &quotaStore{seen: quotas, stored: map[string]*corev1.ResourceQuota{}}
	for _, q := range quotas {
		s.stored[q.Name] = q.DeepCopy()
	}
	return s
}

func (s *quotaStore) ResourceQuotas(_ context.Context, ns string) ([]*corev1.ResourceQuota, error) {
	if ns != "a" {
		return nil, nil
	}
	return s.seen, nil
}

func (s *quotaStore) change(_ context.Context, _, name string, change func(*corev1.ResourceQuota)) error {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes.Add(1)
	if s.fail != nil && name == s.failing {
		return s.fail
	}
	q := s.stored[name]
	if q == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "resourcequotas"}, name)
	}
	change(q)
	return nil
}

func (s *quotaStore) used(name string) string { return quota.Text(s.stored[name].Status.Used) }

func amounts(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func aQuota(name string, hard, used corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, UID: types.UID(name)},
		Spec:       corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes},
		Status:     corev1.ResourceQuotaStatus{Hard: hard, Used: used},
	}
}

func TestResourceQuota(t *testing.T) {
	var (
		claimKind  = define[*corev1.PersistentVolumeClaim]("", "PersistentVolumeClaim", "persistentvolumeclaims", true)
		secretKind = define[*corev1.Secret]("", "Secret", "secrets", true)
		eventKind  = define[*corev1.Event]("", "Event", "events", true)
	)
	asking := func(requests, limits corev1.ResourceList) *corev1.Pod {
		return aPod(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}}
		})
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s"}}
	service := func(kind corev1.ServiceType) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}, Spec: corev1.ServiceSpec{Type: kind, Ports: make([]corev1.ServicePort, 2)}}
	}
	claim := func(size, held string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "disk"}}
		c.Spec.Resources.Requests = amounts("storage", size)
		if held != "" {
			c.Status.AllocatedResources = amounts("storage", held)
		}
		return c
	}
	sub := func(name string, a *admission.Attributes) *admission.Attributes {
		a.Subresource = name
		return a
	}
	dry := func(a *admission.Attributes) *admission.Attributes {
		a.DryRun = true
		return a
	}
	bounded := asking(nil, nil)
	bounded.Spec.ActiveDeadlineSeconds = ptr.To[int64](5)
	vip := asking(nil, nil)
	vip.Spec.PriorityClassName = "vip"
	limits := []LimitedResource{
		{Resource: "pods", MatchContains: []string{"limits."}, MatchScopes: []corev1.ScopedResourceSelectorRequirement{
			{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: corev1.ScopeSelectorOpIn, Values: []string{"vip"}}}},
		{APIGroup: "apps", Resource: "secrets", MatchContains: []string{"secrets"}},
	}
	tenPods := func(used string) *corev1.ResourceQuota {
		return aQuota("q", amounts("pods", "10"), amounts("pods", used))
	}
	for _, tc := range []struct {
		name    string
		quotas  []*corev1.ResourceQuota
		limited []LimitedResource
		a       *admission.Attributes
		words   string // of the refusal
		used    string // of the first quota afterwards
	}{
		{"no quota", nil, nil, attributes(admission.Create, podKind, asking(nil, nil), nil), "", ""},
		{"room", []*corev1.ResourceQuota{tenPods("9")}, nil, attributes(admission.Create, podKind, asking(nil, nil), nil), "", "pods=10"},
		{"no room", []*corev1.ResourceQuota{tenPods("10")}, nil, attributes(admission.Create, podKind, asking(nil, nil), nil),
			`pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10`, "pods=10"},
		{"names of others", []*corev1.ResourceQuota{tenPods("9")}, nil, attributes(admission.Create, secretKind, secret, nil), "", "pods=9"},
		{"a dry run takes nothing", []*corev1.ResourceQuota{tenPods("9")}, nil, dry(attributes(admission.Create, podKind, asking(nil, nil), nil)), "", "pods=9"},
		{"a dry run is refused", []*corev1.ResourceQuota{tenPods("10")}, nil, dry(attributes(admission.Create, podKind, asking(nil, nil), nil)), "exceeded quota", "pods=10"},
		{"an update of a pod", []*corev1.ResourceQuota{tenPods("10")}, nil, attributes(admission.Update, podKind, asking(nil, nil), asking(nil, nil)), "", "pods=10"},
		{"a binding", []*corev1.ResourceQuota{tenPods("10")}, nil, sub("binding", attributes(admission.Create, podKind, asking(nil, nil), nil)), "", "pods=10"},
		{"several of which two are too much", []*corev1.ResourceQuota{aQuota("q", amounts("limits.cpu", "2", "requests.memory", "1Gi", "pods", "5"),
			amounts("limits.cpu", "1500m", "requests.memory", "1Gi", "pods", "1"))}, nil,
			attributes(admission.Create, podKind, asking(amounts("memory", "100Mi"), amounts("cpu", "600m")), nil),
			"exceeded quota: q, requested: limits.cpu=600m,requests.memory=100Mi, used: limits.cpu=1500m,requests.memory=1Gi, limited: limits.cpu=2,requests.memory=1Gi",
			"limits.cpu=1500m,pods=1,requests.memory=1Gi"},
		{"what must be said", []*corev1.ResourceQuota{aQuota("q", amounts("limits.cpu", "2", "memory", "1Gi"), amounts("limits.cpu", "0", "memory", "0"))}, nil,
			attributes(admission.Create, podKind, asking(nil, amounts("memory", "1")), nil), "failed quota: q: must specify limits.cpu for: c; memory for: c", ""},
		{"not reckoned yet", []*corev1.ResourceQuota{aQuota("q", amounts("pods", "2", "count/pods", "3"), amounts("pods", "1"))}, nil,
			attributes(admission.Create, podKind, asking(nil, nil), nil), "status unknown for quota: q, resources: count/pods,pods", "pods=1"},
		{"other scope", []*corev1.ResourceQuota{aQuota("q", amounts("pods", "1"), amounts("pods", "1"), "Terminating")}, nil,
			attributes(admission.Create, podKind, asking(nil, nil), nil), "", "pods=1"},
		{"given a deadline it comes into the scope", []*corev1.ResourceQuota{aQuota("q", amounts("pods", "1"), amounts("pods", "1"), "Terminating")}, nil,
			attributes(admission.Update, podKind, bounded, asking(nil, nil)), "exceeded quota: q, requested: pods=1", "pods=1"},
		{"resized", []*corev1.ResourceQuota{aQuota("q", amounts("cpu", "3"), amounts("cpu", "1"))}, nil,
			sub("resize", attributes(admission.Update, podKind, asking(amounts("cpu", "2"), nil), asking(amounts("cpu", "1"), nil))), "", "cpu=2"},
		{"resized too far", []*corev1.ResourceQuota{aQuota("q", amounts("cpu", "3"), amounts("cpu", "2"))}, nil,
			sub("resize", attributes(admission.Update, podKind, asking(amounts("cpu", "3"), nil), asking(amounts("cpu", "1"), nil))), "requested: cpu=2", "cpu=2"},
		{"a service becomes a balancer", []*corev1.ResourceQuota{aQuota("q", amounts("services.loadbalancers", "1", "services.nodeports", "2", "services", "1"),
			amounts("services.loadbalancers", "0", "services.nodeports", "0", "services", "1"))}, nil,
			attributes(admission.Update, serviceKind, service(corev1.ServiceTypeLoadBalancer), service(corev1.ServiceTypeClusterIP)), "",
			"services=1,services.loadbalancers=1,services.nodeports=2"},
		{"a balancer becomes a service", []*corev1.ResourceQuota{aQuota("q", amounts("services.loadbalancers", "1"), amounts("services.loadbalancers", "1"))}, nil,
			attributes(admission.Update, serviceKind, service(corev1.ServiceTypeClusterIP), service(corev1.ServiceTypeLoadBalancer)), "", "services.loadbalancers=1"},
		{"a claim grows too far", []*corev1.ResourceQuota{aQuota("q", amounts("requests.storage", "10Gi"), amounts("requests.storage", "8Gi"))}, nil,
			attributes(admission.Update, claimKind, claim("5Gi", ""), claim("2Gi", "")), "requested: requests.storage=3Gi, used: requests.storage=8Gi", "requests.storage=8Gi"},
		{"what a claim holds is charged beyond the bounds", []*corev1.ResourceQuota{aQuota("q", amounts("requests.storage", "10Gi"), amounts("requests.storage", "8Gi"))}, nil,
			sub("status", attributes(admission.Update, claimKind, claim("2Gi", "6Gi"), claim("2Gi", ""))), "", "requests.storage=12Gi"},
		{"objects of a group", []*corev1.ResourceQuota{aQuota("q", amounts("count/leases.coordination.k8s.io", "1"), amounts("count/leases.coordination.k8s.io", "1"))}, nil,
			attributes(admission.Create, leaseKind, aPod(nil), nil), `leases.coordination.k8s.io "p" is forbidden: exceeded quota: q, requested: count/leases.coordination.k8s.io=1`, ""},
		{"events are not counted", []*corev1.ResourceQuota{aQuota("q", amounts("count/events", "0"), amounts("count/events", "0"))}, nil,
			attributes(admission.Create, eventKind, aPod(nil), nil), "", "count/events=0"},
		{"limited and covered by none", nil, limits, attributes(admission.Create, podKind, asking(nil, amounts("cpu", "1", "memory", "1")), nil),
			"insufficient quota to consume: limits.cpu,limits.memory", ""},
		{"limited and covered", []*corev1.ResourceQuota{aQuota("q", amounts("limits.cpu", "2"), amounts("limits.cpu", "0"))}, limits,
			attributes(admission.Create, podKind, asking(nil, amounts("cpu", "1")), nil), "", "limits.cpu=1"},
		{"limited scope covered by none", []*corev1.ResourceQuota{tenPods("0")}, limits, attributes(admission.Create, podKind, vip, nil),
			"insufficient quota to match these scopes: [{PriorityClass In [vip]}]", "pods=0"},
		{"limited scope covered", []*corev1.ResourceQuota{aQuota("q", amounts("pods", "2"), amounts("pods", "0"), corev1.ResourceQuotaScopePriorityClass)}, limits,
			attributes(admission.Create, podKind, vip, nil), "", "pods=1"},
		{"of another group", nil, limits, attributes(admission.Create, secretKind, secret, nil), "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newQuotaStore(tc.quotas...)
			p := newResourceQuota(Parts{Quotas: s, ChangeQuota: s.change, LimitedResources: tc.limited})
			reason := metav1.StatusReasonForbidden
			if tc.words == "" {
				reason = ""
			}
			refused(t, p.Validate(t.Context(), tc.a), reason, tc.words)
			if tc.used != "" && s.used("q") != tc.used {
				t.Errorf("used is %s, want %s", s.used("q"), tc.used)
			}
		})
	}
}

// What one quota has taken is given back when another refuses, and no quota that is full seems to is asked after one that is not.
func TestResourceQuotaGivesBack(t *testing.T) {
	first, second := aQuota("first", amounts("pods", "10"), amounts("pods", "3")), aQuota("second", amounts("count/pods", "5"), amounts("count/pods", "4"))
	s := newQuotaStore(first, second)
	s.stored["second"].Status.Used = amounts("count/pods", "5") // newer than what is seen
	p := newResourceQuota(Parts{Quotas: s, ChangeQuota: s.change})
	chain := admission.New([]admission.Plugin{p})
	a := attributes(admission.Create, podKind, aPod(nil), nil)
	refused(t, chain.Validate(t.Context(), a), metav1.StatusReasonForbidden, "exceeded quota: second, requested: count/pods=1, used: count/pods=5")
	if s.used("first") != "pods=4" {
		t.Errorf("before the undo the first has %s", s.used("first"))
	}
	chain.Undo(t.Context(), a)
	if s.used("first") != "pods=3" || s.used("second") != "count/pods=5" {
		t.Errorf("after the undo: %s and %s", s.used("first"), s.used("second"))
	}
	// Seen to be full, the second is asked first: nothing else is written.
	s.seen[1] = s.stored["second"].DeepCopy()
	writes := s.writes.Load()
	if err := chain.Validate(t.Context(), attributes(admission.Create, podKind, aPod(nil), nil)); err == nil || s.writes.Load() != writes+1 {
		t.Errorf("refused by %v after %d writes, want one", err, s.writes.Load()-writes)
	}
	// Neither a quota of the same name made anew, nor one that is gone, is given what another has taken.
	s.stored["second"].Status.Used = amounts("count/pods", "0")
	a = attributes(admission.Create, podKind, aPod(nil), nil)
	refused(t, chain.Validate(t.Context(), a), "", "")
	s.stored["first"].UID = "another"
	delete(s.stored, "second")
	chain.Undo(t.Context(), a)
	if s.used("first") != "pods=4" {
		t.Errorf("the new quota has %s", s.used("first"))
	}
	refused(t, chain.Validate(t.Context(), attributes(admission.Create, podKind, aPod(nil), nil)), "", "") // what is gone limits nothing
}

func TestResourceQuotaFailure(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		reason metav1.StatusReason
	}{
		{"of the server", errors.New("etcd is away"), metav1.StatusReasonInternalError},
		{"told to clients", apierrors.NewServiceUnavailable("later"), metav1.StatusReasonServiceUnavailable},
	} {
		s := newQuotaStore(aQuota("q", amounts("pods", "10"), amounts("pods", "3")))
		s.fail, s.failing = tc.err, "q"
		p := newResourceQuota(Parts{Quotas: s, ChangeQuota: s.change})
		refused(t, p.Validate(t.Context(), attributes(admission.Create, podKind, aPod(nil), nil)), tc.reason, "")
	}
}

// Fifty at once: ten find room, and the quota is written twice: for the first, and for all who came while that was written. What
// some of them give back is written once more, and by as many as find room then.
func TestResourceQuotaBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newQuotaStore(aQuota("q", amounts("pods", "10"), amounts("pods", "0")))
		s.slow = time.Second
		chain := admission.New([]admission.Plugin{newResourceQuota(Parts{Quotas: s, ChangeQuota: s.change})})
		var mu sync.Mutex
		var taken []*admission.Attributes
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				if i%5 == 0 {
					cancel() // a client that is gone does not fail the others, whose write it makes
				}
				defer cancel()
				a := attributes(admission.Create, podKind, aPod(func(p *corev1.Pod) { p.Name = fmt.Sprint("p", i) }), nil)
				if err := chain.Validate(ctx, a); err == nil {
					mu.Lock()
					defer mu.Unlock()
					taken = append(taken, a)
				}
			})
		}
		wg.Wait()
		if len(taken) != 10 || s.used("q") != "pods=10" || s.writes.Load() != 2 {
			t.Errorf("%d found room, %s is used, the quota was written %d times; want 10, pods=10 and 2", len(taken), s.used("q"), s.writes.Load())
		}
		for _, a := range taken[:4] {
			wg.Go(func() { chain.Undo(t.Context(), a) })
		}
		wg.Wait()
		if s.used("q") != "pods=6" || s.writes.Load() != 4 {
			t.Errorf("after four gave back %s is used, and the quota was written %d times; want pods=6 and 4", s.used("q"), s.writes.Load())
		}
	})
}

// A write that panics is its own writer's affair.
func TestResourceQuotaPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newQuotaStore(aQuota("q", amounts("pods", "10"), amounts("pods", "0")))
		var writes atomic.Int64
		change := func(ctx context.Context, ns, name string, f func(*corev1.ResourceQuota)) error {
			time.Sleep(time.Second)
			if writes.Add(1) == 2 {
				panic("a plugin is broken")
			}
			return s.change(ctx, ns, name, f)
		}
		p := newResourceQuota(Parts{Quotas: s, ChangeQuota: change})
		var wg sync.WaitGroup
		var failed atomic.Int64
		one := func() {
			defer func() {
				if recover() != nil {
					failed.Add(1)
				}
			}()
			if p.Validate(t.Context(), attributes(admission.Create, podKind, aPod(nil), nil)) != nil {
				failed.Add(1)
			}
		}
		for range 4 {
			wg.Go(one)
		}
		wg.Wait()
		one()
		if failed.Load() != 3 || s.used("q") != "pods=2" {
			t.Errorf("%d failed, and %s is used; want 3 and pods=2", failed.Load(), s.used("q"))
		}
	})
}

// BenchmarkNoQuota is what a write pays where there is no quota.
func BenchmarkNoQuota(b *testing.B) {
	s := newQuotaStore(aQuota("q", amounts("pods", "10"), amounts("pods", "3")))
	p := newResourceQuota(Parts{Quotas: s, ChangeQuota: s.change})
	obj := aPod(func(p *corev1.Pod) { p.Namespace = "b" })
	a := attributes(admission.Create, podKind, obj, nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Validate(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
}
