package endpointslice

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

// stage is the controller over caches that are filled by hand, and an API server that only takes slices.
type stage struct {
	testing.TB
	c       loop.Controller
	caches  informers.SharedInformerFactory
	written []*discoveryv1.EndpointSlice // as stored, the newest last
	events  *record.FakeRecorder
}

func newStage(t testing.TB) *stage {
	s := &stage{TB: t, events: record.NewFakeRecorder(100)}
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api", Transport: s, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	s.caches = client.Informers(kube)
	s.c = New(Config{PerSlice: 100})(loop.Tools{Clients: &client.Clients{Kube: kube}, Informers: s.caches, Recorder: s.events})
	return s
}

// RoundTrip stores a slice.
func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	e := &discoveryv1.EndpointSlice{}
	if err := json.Unmarshal(body, e); err != nil {
		return nil, err
	}
	if r.Method == http.MethodPost {
		e.Name, e.UID = fmt.Sprintf("%sx%d", e.GenerateName, len(s.written)), types.UID(fmt.Sprint(len(s.written)))
	}
	e.Generation++
	e.ResourceVersion = fmt.Sprint(100 + len(s.written))
	s.written = append(s.written, e)
	text, err := json.Marshal(e)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, err
}

// add puts an object into its cache and tells the controller, whose keys it returns.
func (s *stage) add(resource string, inf cache.SharedIndexInformer, obj metav1.Object) []loop.Key {
	s.Helper()
	e := loop.Event{New: obj}
	if old, there, err := inf.GetIndexer().Get(obj); err != nil {
		s.Fatal(err)
	} else if there {
		e.Old = old.(metav1.Object)
	}
	if err := inf.GetIndexer().Update(obj); err != nil {
		s.Fatal(err)
	}
	for _, w := range s.c.Watches {
		if w.Resource == resource {
			return w.Wakes.Keys(e)
		}
	}
	s.Fatalf("nobody watches %s", resource)
	return nil
}

func (s *stage) pod(p *corev1.Pod) []loop.Key {
	return s.add("pods", s.caches.Core().V1().Pods().Informer(), p)
}
func (s *stage) service(svc *corev1.Service) []loop.Key {
	return s.add("services", s.caches.Core().V1().Services().Informer(), svc)
}
func (s *stage) node(n *corev1.Node) []loop.Key {
	return s.add("nodes", s.caches.Core().V1().Nodes().Informer(), n)
}
func (s *stage) slice(e *discoveryv1.EndpointSlice) []loop.Key {
	return s.add("endpointslices.discovery.k8s.io", s.caches.Discovery().V1().EndpointSlices().Informer(), e)
}

var web = loop.Key{Namespace: "ns", Name: "web"}

func webService() *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u"}, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.9", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
		Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}}}}
}

func backend(i int, ready corev1.ConditionStatus) *corev1.Pod {
	ip := fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("p%d", i), UID: types.UID(ip), Labels: map[string]string{"app": "web"}, ResourceVersion: string(ready)},
		Spec:       corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func node(name, zone string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

func (s *stage) reconcile() error {
	_, err := s.c.Reconcile(s.Context(), web)
	return err
}

// TestStaleCacheMakesNoSecondSlice has the controller work while its cache does not show what it wrote.
func TestStaleCacheMakesNoSecondSlice(t *testing.T) {
	s := newStage(t)
	s.node(node("n", "a"))
	s.service(webService())
	s.pod(backend(0, corev1.ConditionTrue))
	if err := s.reconcile(); err != nil || len(s.written) != 1 {
		t.Fatalf("%d written: %v", len(s.written), err)
	}
	if keys := s.pod(backend(1, corev1.ConditionTrue)); len(keys) != 1 || keys[0] != web {
		t.Errorf("a new pod wakes %v", keys)
	}
	if err := s.reconcile(); !errors.Is(err, loop.ErrStale) || len(s.written) != 1 {
		t.Fatalf("decided on a cache behind its own hand: %d written, %v", len(s.written), err)
	}
	if keys := s.slice(s.written[0]); len(keys) != 1 || keys[0] != web {
		t.Errorf("what it waited for wakes %v", keys)
	}
	if err := s.reconcile(); err != nil || len(s.written) != 2 || s.written[1].Name != s.written[0].Name || len(s.written[1].Endpoints) != 2 {
		t.Fatalf("%d written: %v", len(s.written), err)
	}
	if keys := s.slice(s.written[1]); len(keys) != 0 {
		t.Errorf("what it knows of itself wakes %v", keys)
	}
	if err := s.reconcile(); err != nil || len(s.written) != 2 {
		t.Fatalf("writes though nothing changed: %d, %v", len(s.written), err)
	}
	meddled := s.written[1].DeepCopy()
	meddled.Generation, meddled.ResourceVersion, meddled.Endpoints = meddled.Generation+1, "200", nil
	if keys := s.slice(meddled); len(keys) != 1 {
		t.Errorf("what another did wakes %v", keys)
	}
}

// TestNodeThatComesLate leaves out pods on a node that is not known, and is woken when it is.
func TestNodeThatComesLate(t *testing.T) {
	s := newStage(t)
	s.service(webService())
	s.pod(backend(0, corev1.ConditionTrue))
	if err := s.reconcile(); err == nil || len(s.written) != 1 || len(s.written[0].Endpoints) != 0 {
		t.Fatalf("%d written: %v", len(s.written), err)
	}
	s.slice(s.written[0])
	if keys := s.node(node("n", "a")); len(keys) != 1 || keys[0] != web {
		t.Errorf("the node wakes %v", keys)
	}
	if err := s.reconcile(); err != nil || len(s.written) != 2 || *s.written[1].Endpoints[0].Zone != "a" {
		t.Fatalf("%d written: %v", len(s.written), err)
	}
}

// TestHintsOfFormerTerm says nothing again of hints that are there already.
func TestHintsOfFormerTerm(t *testing.T) {
	svc := webService()
	svc.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
	var have *discoveryv1.EndpointSlice
	for term, want := range []int{1, 0} {
		s := newStage(t)
		s.node(node("n", "a"))
		s.node(node("m", "b"))
		s.service(svc)
		for i := range 4 {
			p := backend(i, corev1.ConditionTrue)
			p.Spec.NodeName = []string{"n", "m"}[i%2]
			s.pod(p)
		}
		if have != nil {
			s.slice(have)
		}
		if err := s.reconcile(); err != nil || len(s.written) != want {
			t.Fatalf("term %d: %d written: %v", term, len(s.written), err)
		}
		if n := len(s.events.Events); n != want {
			t.Errorf("term %d: %d events", term, n)
		}
		if have == nil {
			have = s.written[0]
		}
	}
	for _, e := range have.Endpoints {
		if e.Hints == nil || e.Hints.ForZones[0].Name != *e.Zone {
			t.Errorf("endpoint in %s: %v", *e.Zone, e.Hints)
		}
	}
}

func TestNodesThatChangeNothing(t *testing.T) {
	z := newZones(nil)
	a, b := node("n", "a"), node("n", "a")
	b.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
	z.changed(loop.Event{Old: a, New: b})
	if len(z.moved) > 0 {
		t.Error("a heartbeat counts as a change")
	}
	for _, change := range []func(*corev1.Node){
		func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "b" },
		func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown },
		func(n *corev1.Node) { n.Status.Allocatable = nil },
		func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/control-plane"] = "" },
	} {
		n := node("n", "a")
		change(n)
		z.changed(loop.Event{Old: a, New: n})
		if len(z.moved) == 0 {
			t.Errorf("no change: %v", n)
		} else {
			<-z.moved
		}
	}
}

// BenchmarkChange is one pod's change, from its event to the slice as sent, of a Service of ten among 1,000 of one namespace.
func BenchmarkChange(b *testing.B) {
	s := newStage(b)
	s.node(node("n", "a"))
	for i := range 1000 {
		svc := webService()
		if i > 0 {
			svc.Name, svc.Spec.Selector = fmt.Sprint("s", i), map[string]string{"app": fmt.Sprint("a", i)}
		}
		s.service(svc)
	}
	for i := range 10 {
		s.pod(backend(i, corev1.ConditionTrue))
	}
	if err := s.reconcile(); err != nil {
		b.Fatal(err)
	}
	s.slice(s.written[0])
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		ready := corev1.ConditionTrue
		if n++; n%2 == 1 {
			ready = corev1.ConditionFalse
		}
		if keys := s.pod(backend(3, ready)); len(keys) != 1 {
			b.Fatal(keys)
		}
		if err := s.reconcile(); err != nil {
			b.Fatal(err)
		}
		last := s.written[len(s.written)-1]
		if len(s.written) != 2 || ptr.Deref(last.Endpoints[0].Conditions.Ready, false) && len(last.Endpoints) != 10 {
			b.Fatalf("%d written", len(s.written))
		}
		s.written = []*discoveryv1.EndpointSlice{last}
		s.slice(last)
	}
}
