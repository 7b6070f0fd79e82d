package source

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pod"
)

const manifestText = `apiVersion: v1
kind: Pod
metadata: {name: static, namespace: kube-system}
spec: {containers: [{name: c, image: img}]}
`

func next(t *testing.T, s *Source) Update {
	t.Helper()
	select {
	case u := <-s.Updates():
		return u
	case <-time.After(30 * time.Second):
		t.Fatal("no news")
		return Update{}
	}
}

func TestOneStream(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", manifestText)
	write("broken.yaml", "kind: [")
	write("note.txt", "not a manifest")

	feed := watch.NewFake()
	first := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "old", UID: "old", ResourceVersion: "1"}}
	informer := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Pod{first}}, nil
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) { return feed, nil },
	}, unlisted{}), &corev1.Pod{}, 0, cache.Indexers{})
	s := New(Config{Node: "n1", Path: folder}, informer, logging.ForTest(t))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { informer.RunWithContext(ctx); done <- nil }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})

	seen := map[string]*corev1.Pod{}
	for u := next(t, s); !u.Synced; u = next(t, s) {
		seen[u.Pod.Name] = u.Pod
	}
	st := seen["static-n1"]
	if len(seen) != 2 || seen["old"] == nil || st == nil {
		t.Fatalf("before Synced came %v", seen)
	}
	if st.Spec.NodeName != "n1" || len(st.UID) != 32 || st.Annotations["kubernetes.io/config.source"] != "file" || st.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("the static pod is %+v", st)
	}

	// Only the newest state waits.
	p := first.DeepCopy()
	for _, rv := range []string{"2", "3", "4"} {
		p = p.DeepCopy()
		p.ResourceVersion = rv
		p.Annotations = map[string]string{"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "old"}
		feed.Modify(p)
	}
	u := next(t, s)
	for u.Pod.ResourceVersion != "4" {
		u = next(t, s)
	}
	if pod.Static(u.Pod) || pod.Critical(u.Pod) || !pod.Static(p) {
		t.Errorf("a pod of the API that says it is static is: %v", u.Pod.Annotations)
	}
	feed.Delete(p)
	if u := next(t, s); !u.Gone || u.Pod.UID != "old" {
		t.Errorf("after the deletion came %+v", u)
	}

	// A changed file is another pod.
	write("a.yaml", strings.Replace(manifestText, "img", "other", 1))
	if u := next(t, s); !u.Gone || u.Pod.UID != st.UID {
		t.Errorf("after the change came %+v", u)
	}
	if u := next(t, s); u.Gone || u.Pod.UID == st.UID || u.Pod.Spec.Containers[0].Image != "other" {
		t.Errorf("after the change came %+v", u)
	}
	if err := os.Remove(filepath.Join(folder, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if u := next(t, s); !u.Gone || u.Pod.Name != "static-n1" {
		t.Errorf("after the removal came %+v", u)
	}
}

// unlisted is a client that doesn't stream lists.
type unlisted struct{}

func (unlisted) IsWatchListSemanticsUnSupported() bool { return true }
