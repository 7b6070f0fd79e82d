package localpath

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

// TestVolumeGoneBeforeBinding: somebody deletes a volume before its claim is bound to it: the claim gets another.
func TestVolumeGoneBeforeBinding(t *testing.T) {
	claim := claimWith(nil)
	v := volume(claim, classWith(nil), nodeWith("n1", nil), "/data")
	if got := ours(loop.Event{Old: v}); !slices.Equal(got, []loop.Key{loop.KeyOf(claim)}) {
		t.Errorf("it wakes %v", got)
	}
	v.Annotations = nil
	if got := ours(loop.Event{Old: v}); len(got) != 0 {
		t.Errorf("one that is not ours wakes %v", got)
	}
}

// TestDeleteAsSeen: a volume is deleted only as it was looked at: a newer one may be to be retained, or another claim's.
func TestDeleteAsSeen(t *testing.T) {
	var asked metav1.DeleteOptions
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.Method != http.MethodDelete {
			t.Errorf("%s %v", r.Method, err)
		}
		no := apierrors.NewConflict(corev1.Resource("persistentvolumes"), "pvc-u1", nil).Status()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		if err := json.NewEncoder(w).Encode(no); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	caches, events := client.Informers(kube), record.NewFakeRecorder(10)
	c := New("/data")(loop.Tools{Clients: &client.Clients{Kube: kube}, Informers: caches, Recorder: events})
	v := volume(claimWith(nil), classWith(nil), nodeWith("n1", nil), "/data")
	v.UID, v.ResourceVersion, v.Status.Phase = "v1", "12", corev1.VolumeReleased
	if err := caches.Core().V1().PersistentVolumes().Informer().GetStore().Add(v); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reconcile(t.Context(), loop.KeyOf(v)); err != nil {
		t.Errorf("a newer one wakes by itself: %v", err)
	}
	if p := asked.Preconditions; p == nil || p.UID == nil || *p.UID != v.UID || p.ResourceVersion == nil || *p.ResourceVersion != "12" {
		t.Errorf("deleted with %+v", p)
	}
	if len(events.Events) != 0 {
		t.Errorf("users were told: %s", <-events.Events)
	}
}

// TestOrphan: a volume that is going is let go only when its node has been missing for a while, as the API says, not the cache.
func TestOrphan(t *testing.T) {
	node, written := http.StatusNotFound, []string(nil)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer any = nodeWith("n1.example.com", nil)
		switch {
		case r.Method == http.MethodPut:
			var v corev1.PersistentVolume
			if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
				t.Error(err)
			}
			written, answer = v.Finalizers, v
		case r.URL.Path != "/api/v1/nodes/n1.example.com":
			t.Errorf("%s %s", r.Method, r.URL.Path)
		case node == http.StatusNotFound:
			w.WriteHeader(node)
			answer = apierrors.NewNotFound(corev1.Resource("nodes"), "n1.example.com").Status()
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		patient time.Duration
		node    int
		again   bool
		want    []string
	}{
		{"just missing", time.Hour, http.StatusNotFound, true, nil},
		{"there, and the cache has not seen it", 0, http.StatusOK, false, nil},
		{"gone", 0, http.StatusNotFound, false, []string{"another"}},
	} {
		caches := client.Informers(kube)
		ctl := with("/data", c.patient)(loop.Tools{Clients: &client.Clients{Kube: kube}, Informers: caches, Recorder: record.NewFakeRecorder(10), Log: zap.NewNop()})
		v := volume(claimWith(nil), classWith(nil), nodeWith("n1.example.com", nil), "/data")
		v.Status.Phase, v.DeletionTimestamp, v.Finalizers = corev1.VolumeReleased, new(metav1.Now()), append(v.Finalizers, "another")
		if err := caches.Core().V1().PersistentVolumes().Informer().GetStore().Add(v); err != nil {
			t.Fatal(err)
		}
		node, written = c.node, nil
		again, err := ctl.Reconcile(t.Context(), loop.KeyOf(v))
		if err != nil || (again > 0) != c.again || !slices.Equal(written, c.want) {
			t.Errorf("%s: again after %v, %v, finalizers written: %q", c.what, again, err, written)
		}
	}
}
