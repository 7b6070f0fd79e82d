package podset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

func newServices() *Services {
	return &Services{
		pods:  cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{byLabel: labelPairs}),
		files: map[pair]map[string]map[string]string{}, under: map[loop.Key]pair{},
	}
}

// set is labels from "a=1 b=2".
func set(text string) map[string]string {
	m := map[string]string{}
	for _, f := range strings.Fields(text) {
		k, v, _ := strings.Cut(f, "=")
		m[k] = v
	}
	return m
}

func selecting(namespace, name, selector string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{Selector: set(selector)}}
}

func backend(name, labels string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: set(labels), ResourceVersion: fmt.Sprint(len(change) + 1)}}
	for _, c := range change {
		c(p)
	}
	return p
}

func ready(p *corev1.Pod) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}
func failed(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }
func noted(p *corev1.Pod)  { p.Annotations = map[string]string{"a": "b"} }
func rebackend(labels string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = set(labels) }
}

func TestServicesTouched(t *testing.T) {
	s := newServices()
	for _, svc := range []*corev1.Service{
		selecting("ns", "web", "app=web"), selecting("ns", "web-prod", "tier=prod app=web"), selecting("ns", "db", "app=db"),
		selecting("ns", "prod", "tier=prod"), selecting("other", "web", "app=web"), selecting("ns", "none", ""),
	} {
		s.Changed().Keys(loop.Event{New: svc})
	}
	external := selecting("ns", "external", "app=web")
	external.Spec.Type = corev1.ServiceTypeExternalName
	s.Changed().Keys(loop.Event{New: external})

	web := backend("p", "app=web x=y")
	for name, tc := range map[string]struct {
		old, now *corev1.Pod
		want     string
	}{
		"appears":                        {nil, web, "web"},
		"with all labels":                {nil, backend("p", "app=web tier=prod"), "prod web web-prod"},
		"with none that matter":          {nil, backend("p", "app=cache"), ""},
		"goes":                           {web, nil, "web"},
		"becomes ready":                  {web, backend("p", "app=web x=y", ready), "web"},
		"changes what no endpoint shows": {web, backend("p", "app=web x=y", noted), ""},
		"fails before it was ready":      {web, backend("p", "app=web x=y", failed), "web"},
		"gains a label":                  {web, backend("p", "", rebackend("app=web x=y tier=prod")), "prod web-prod"},
		"changes sides":                  {web, backend("p", "", rebackend("app=db")), "db web"},
		"gains a label and is ready":     {web, backend("p", "", ready, rebackend("app=web tier=prod")), "prod web web-prod"},
	} {
		t.Run(name, func(t *testing.T) {
			e := loop.Event{}
			if tc.old != nil {
				e.Old = tc.old
			}
			if tc.now != nil {
				e.New = tc.now
			}
			if got := servicesOf(s.Selecting(nil).Keys(e)); got != tc.want {
				t.Errorf("wakes %q, want %q", got, tc.want)
			}
		})
	}
}

func servicesOf(keys []loop.Key) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.Name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestServicesAreFiledAnew(t *testing.T) {
	s := newServices()
	pod := loop.Event{New: backend("p", "app=web")}
	svc := selecting("ns", "s", "app=web")
	s.Changed().Keys(loop.Event{New: svc})
	for _, step := range []struct {
		e    loop.Event
		want string
	}{
		{loop.Event{Old: svc, New: selecting("ns", "s", "app=db")}, ""},
		{loop.Event{Old: svc, New: selecting("ns", "s", "app=web")}, "s"},
		{loop.Event{Old: svc, New: selecting("ns", "s", "app=web more=yes")}, ""},
		{loop.Event{Old: svc, New: selecting("ns", "s", "")}, ""},
		{loop.Event{New: svc}, "s"},
		{loop.Event{Old: svc}, ""},
	} {
		s.Changed().Keys(step.e)
		if got := servicesOf(s.Selecting(nil).Keys(pod)); got != step.want {
			t.Errorf("wakes %q, want %q", got, step.want)
		}
	}
	if len(s.files)+len(s.under) > 0 {
		t.Errorf("keeps %v %v", s.files, s.under)
	}
}

func TestServicesBehind(t *testing.T) {
	s := newServices()
	for _, p := range []*corev1.Pod{backend("a", "app=web tier=prod"), backend("b", "app=web tier=test"), backend("c", "app=db tier=prod"), backend("d", "app=web tier=prod")} {
		if err := s.pods.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	svc := selecting("ns", "s", "app=web tier=prod")
	for _, filed := range []bool{false, true} {
		if filed {
			s.Changed().Keys(loop.Event{New: svc})
		}
		pods, ours, err := s.Behind(svc)
		var got []string
		for _, p := range pods {
			got = append(got, p.Name)
		}
		slices.Sort(got)
		if err != nil || !ours || strings.Join(got, " ") != "a d" {
			t.Errorf("filed %v: %v %v %v", filed, got, ours, err)
		}
	}
	// It was filed by what it no longer selects.
	if pods, _, err := s.Behind(selecting("ns", "s", "app=db")); err != nil || len(pods) != 1 {
		t.Errorf("after a change: %v %v", pods, err)
	}
	if _, ours, err := s.Behind(selecting("ns", "t", "")); ours || err != nil {
		t.Errorf("no selector: %v %v", ours, err)
	}
}

func TestDelayGathers(t *testing.T) {
	d := NewDelay(time.Millisecond)
	k := loop.Key{Namespace: "ns", Name: "s"}
	if now := d.hold([]loop.Key{k, k}); now != nil {
		t.Errorf("woke %v at once", now)
	}
	woken := make(chan loop.Key, 4)
	done := make(chan error)
	go func() { done <- d.Feed(t.Context(), func(k loop.Key) { woken <- k }) }()
	if got := <-woken; got != k {
		t.Errorf("woke %v", got)
	}
	d.queue.ShutDown()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(woken) > 0 {
		t.Errorf("woke %v twice", k)
	}
	if NewDelay(0).hold([]loop.Key{k}) == nil {
		t.Error("holds back without a period")
	}
}

// BenchmarkTouched is one pod's change among 1,000 Services of one namespace that all select a popular label too, and the search
// for the pods behind its one Service among 10,000.
func BenchmarkTouched(b *testing.B) {
	s := newServices()
	for i := range 1000 {
		s.Changed().Keys(loop.Event{New: selecting("ns", fmt.Sprintf("s%d", i), fmt.Sprintf("app=a%d part=web", i))})
	}
	for i := range 10000 {
		if err := s.pods.Add(backend(fmt.Sprintf("p%d", i), fmt.Sprintf("app=a%d part=web pod-template-hash=h%d", i%1000, i%1000))); err != nil {
			b.Fatal(err)
		}
	}
	svc := selecting("ns", "s7", "app=a7 part=web")
	labels := "app=a7 part=web pod-template-hash=h7"
	event := loop.Event{Old: backend("p7", labels), New: backend("p7", labels, ready)}
	b.ReportAllocs()
	for b.Loop() {
		if len(s.Selecting(nil).Keys(event)) != 1 {
			b.Fatal("not one Service")
		}
		if pods, _, err := s.Behind(svc); err != nil || len(pods) != 10 {
			b.Fatal(len(pods), err)
		}
	}
}
