package localvolumes

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/localvolume"
	"pilothouse.dev/pkg/logging"
)

// TestRemoveAsSeen: a folder is removed for the volume as it is, not as a watch that is behind has told: somebody may have saved it.
func TestRemoveAsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*corev1.PersistentVolumeList)
		removed bool
	}{
		"as seen":     {func(*corev1.PersistentVolumeList) {}, true},
		"retained":    {func(l *corev1.PersistentVolumeList) { l.Items[0].ResourceVersion = "13" }, false},
		"another now": {func(l *corev1.PersistentVolumeList) { l.Items[0].UID = "v2" }, false},
		"gone":        {func(l *corev1.PersistentVolumeList) { l.Items = nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			v := local(dir, "pvc-1")
			v.UID, v.ResourceVersion, v.DeletionTimestamp = "v1", "12", new(metav1.Now())
			write(t, dir+"/pvc-1/data")
			live := &corev1.PersistentVolumeList{Items: []corev1.PersistentVolume{*v.DeepCopy()}}
			c.change(live)
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var answer any = v
				if r.Method == http.MethodGet {
					answer = live
					if q := r.URL.Query(); q.Get("labelSelector") != localvolume.NodeLabel+"=n1" || q.Get("fieldSelector") != "metadata.name=pvc-1" {
						t.Errorf("asked for %s", r.URL)
					}
				}
				w.Header().Set("Content-Type", "application/json")
				if err := json.NewEncoder(w).Encode(answer); err != nil {
					t.Error(err)
				}
			}))
			defer api.Close()
			kube, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
			if err != nil {
				t.Fatal(err)
			}
			k := New(Parts{Dirs: NewDirs(dir), Volumes: kube.CoreV1().PersistentVolumes(), Users: &users{}}, logging.ForTest(t))
			if err := k.keep(t.Context(), v); err != nil {
				t.Error(err)
			}
			if exists(t, dir+"/pvc-1/data") == c.removed {
				t.Errorf("removed: %v", !c.removed)
			}
		})
	}
}
