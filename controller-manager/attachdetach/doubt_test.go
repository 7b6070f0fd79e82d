package attachdetach

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

// TestReserve: what two nodes want at once is one's, though the cache shows neither.
func TestReserve(t *testing.T) {
	version, held := "10", []string(nil)
	m := newMemory(func() string { return version })
	others := func() []string { return slices.Clone(held) }
	has := func(what, node string, want ...string) {
		t.Helper()
		if got := m.reserve("pv", node, "csi-"+node, others); !slices.Equal(got, want) {
			t.Errorf("%s: held by %q, want %q", what, got, want)
		}
	}
	free := func(what string, want ...string) {
		t.Helper()
		if got := m.takeFree(); !slices.Equal(got, want) {
			t.Errorf("%s: free are %q, want %q", what, got, want)
		}
	}
	at := time.Unix(1000, 0)
	has("the first", "n1")
	has("the second, meanwhile", "n2", "n1")
	m.attached("pv", "n1", "12", false, at)
	has("the cache is behind", "n2", "n1")
	has("once more", "n1")
	m.attached("pv", "n1", "", false, at) // which failed, but the former did not
	has("the cache is still behind", "n2", "n1")
	version, held = "12", []string{"n1"}
	has("the cache shows it", "n2", "n1")
	held = nil
	has("it is gone", "n2")
	free("nothing was given up")
	m.attached("pv", "n2", "", false, at) // which failed
	free("it failed", "pv")
	has("it may be tried by anybody", "n1")
	m.attached("pv", "n1", "", true, at) // which nobody knows
	has("it may have been attached", "n2", "n1")
	if got := m.doubts("n1")["pv"]; got.name != "csi-n1" || got.doubt != at || len(m.doubts("n2")) != 0 {
		t.Errorf("in doubt: %+v", got)
	}
	has("once more", "n1")
	m.attached("pv", "n1", "", false, at) // which was refused, and the former may have been made
	has("it may still have been attached", "n2", "n1")
	free("nothing is known")
	m.absent("pv", "n1")
	free("it was not", "pv")
	has("the other", "n2")
	m.attached("pv", "n2", "14", false, at)
	m.seen("pv", "n2")
	if len(m.made) != 0 {
		t.Errorf("%v is remembered", m.made)
	}
}

// stage is the controller over caches that are filled by hand, and an API that answers what it is told to.
type stage struct {
	testing.TB
	*controller
	caches informers.SharedInformerFactory
	asked  []string // verb and path
	answer func(r *http.Request) (any, error)
}

func newStage(t testing.TB) *stage {
	s := &stage{TB: t}
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api", Transport: s, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	s.caches = client.Informers(kube)
	s.controller = build(loop.Tools{Clients: &client.Clients{Kube: kube}, Informers: s.caches, Recorder: record.NewFakeRecorder(100)}, false)
	return s
}

func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	o, err := s.answer(r)
	if err != nil {
		return nil, err
	}
	code := http.StatusOK
	if st, is := o.(metav1.Status); is {
		code = int(st.Code)
	}
	text, err := json.Marshal(o)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, err
}

func (s *stage) put(inf cache.SharedIndexInformer, o any) {
	s.Helper()
	if err := inf.GetIndexer().Add(o); err != nil {
		s.Fatal(err)
	}
}

// disk is a volume that is bound to a claim, and pods with it on nodes.
func (s *stage) disk(name string, nodes ...string) {
	s.Helper()
	core := s.caches.Core().V1()
	v := csi(name, corev1.ReadWriteOnce)
	v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "shop", Name: name, UID: types.UID(name)}
	s.put(core.PersistentVolumes().Informer(), v)
	s.put(core.PersistentVolumeClaims().Informer(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)},
		Spec: corev1.PersistentVolumeClaimSpec{VolumeName: name}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}})
	for _, n := range nodes {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "on-" + n}, Spec: corev1.PodSpec{NodeName: n}}
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}}
		s.put(core.Pods().Informer(), p)
		one := node(ready, "", "")
		one.Name = n
		s.put(core.Nodes().Informer(), one)
	}
}

// TestAttachUnanswered: an attachment whose making was not answered may have been made: no other node gets the volume until it is known.
func TestAttachUnanswered(t *testing.T) {
	s := newStage(t)
	s.disk("a", "n1", "n2")
	s.answer = func(*http.Request) (any, error) { return nil, errors.New("connection lost") }
	if _, err := s.reconcile(t.Context(), loop.Key{Name: "n1"}); err == nil {
		t.Error("no error")
	}
	s.asked = nil
	if _, err := s.reconcile(t.Context(), loop.Key{Name: "n2"}); err != nil || len(s.asked) != 0 {
		t.Errorf("the second node: %v, asked %q", err, s.asked)
	}

	// The first pod goes, and what it has asked for may still come for a while.
	pods := s.caches.Core().V1().Pods().Informer().GetIndexer()
	if err := pods.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "on-n1"}}); err != nil {
		t.Fatal(err)
	}
	if again, err := s.reconcile(t.Context(), loop.Key{Name: "n1"}); err != nil || again <= 0 || again > doubtFor || len(s.asked) != 0 {
		t.Errorf("again after %v, %v, asked %q", again, err, s.asked)
	}
	s.answer = func(r *http.Request) (any, error) {
		return apierrors.NewNotFound(storagev1.Resource("volumeattachments"), "a").Status(), nil
	}
	if again, err := s.settle(t.Context(), "n1", seen{now: time.Now().Add(doubtFor)}, nil); again != 0 || err != nil || len(s.asked) != 1 || !strings.HasPrefix(s.asked[0], "GET ") {
		t.Errorf("again after %v, %v, asked %q", again, err, s.asked)
	}
	woken := make(chan loop.Key)
	go func() {
		if err := s.feed(t.Context(), func(k loop.Key) { woken <- k }); err != nil {
			t.Error(err)
		}
	}()
	if k := <-woken; k.Name != "n2" {
		t.Errorf("woken is %s", k)
	}
}

// TestDetachBehind: what a cache shows that is behind takes no volume from a node that has mounted it since.
func TestDetachBehind(t *testing.T) {
	for name, c := range map[string]struct {
		cached, live *corev1.Node
		deleted      bool
	}{
		"as seen":                 {node(ready, "", ""), node(ready, "", ""), true},
		"mounted since":           {node(ready, "", ""), node(ready, "a", "a"), false},
		"told since":              {node(ready, "", ""), node(ready, "", "a"), false},
		"gone since":              {node(ready, "", ""), nil, false},
		"healthy since":           {node(ready, "", "", service), node(ready, "", ""), false},
		"told, gone since":        {node(ready, "", "a"), nil, false},
		"told, and as it is seen": {node(ready, "", "a"), node(ready, "", "a"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.disk("a")
			s.put(s.caches.Core().V1().Nodes().Informer(), c.cached)
			volume := "a"
			va := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachmentName("h-a", "disks.example.com", "n1"), UID: "va"},
				Spec: storagev1.VolumeAttachmentSpec{Attacher: "disks.example.com", NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}}}
			s.put(s.caches.Storage().V1().VolumeAttachments().Informer(), va)
			deleted := false
			s.answer = func(r *http.Request) (any, error) {
				if r.Method == http.MethodDelete {
					deleted = true
					return va, nil
				}
				if c.live == nil {
					return apierrors.NewNotFound(corev1.Resource("nodes"), "n1").Status(), nil
				}
				return c.live, nil
			}
			if _, err := s.reconcile(t.Context(), loop.Key{Name: "n1"}); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
			if deleted != c.deleted {
				t.Errorf("deleted: %v, asked %q", deleted, s.asked)
			}
		})
	}
}
