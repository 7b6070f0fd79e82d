package volumes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/pkg/localvolume"
	"pilothouse.dev/pkg/logging"
)

// oursOn makes a volume one whose folder the provisioner has on a node.
func oursOn(v *corev1.PersistentVolume, node string) {
	v.Annotations = map[string]string{"pv.kubernetes.io/provisioned-by": localvolume.Provisioner}
	v.Labels = map[string]string{localvolume.NodeLabel: node}
}

// TestUsersCannotBeRead: while it is not known who uses a volume, it is not said that nobody does: it would be removed.
func TestUsersCannotBeRead(t *testing.T) {
	s := newStorage()
	s.bound("data", t.TempDir())
	m := withStorage(t, s)
	at := filepath.Join(m.volumesDir("uid-2"), claimKind) // what cannot be read as a folder, for whatever reason
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if used, err := m.Uses("pv-data"); err == nil {
		t.Errorf("used: %v, without an error", used)
	}
}

// TestUsersBelowOddFolder: the kubelet's folder may have any name.
func TestUsersBelowOddFolder(t *testing.T) {
	s := newStorage()
	s.bound("data", t.TempDir())
	m := New(filepath.Join(t.TempDir(), "[a]*"), Parts{Look: objects{}, Tokens: &tokens{}, Storage: s}, logging.ForTest(t))
	if _, err := m.Setup(t.Context(), podWith(claimVolume("data")), resolve.Facts{}); err != nil {
		t.Fatal(err)
	}
	if used, err := m.Uses("pv-data"); !used || err != nil {
		t.Errorf("used: %v, %v", used, err)
	}
}

// TestClaimReplaced: a claim is taken away by force and made anew while a pod runs on it: the pod keeps what it has.
func TestClaimReplaced(t *testing.T) {
	s := newStorage()
	s.bound("data", t.TempDir())
	m, pod := withStorage(t, s), podWith(claimVolume("data"))
	if _, err := m.Setup(t.Context(), pod, resolve.Facts{}); err != nil {
		t.Fatal(err)
	}
	c, v := s.bound("data", t.TempDir())
	c.UID, c.Spec.VolumeName = "uid-new", "pv-new"
	v.Name, v.Spec.ClaimRef.UID = "pv-new", c.UID
	s.volumes["pv-new"] = v
	if _, err := m.Setup(t.Context(), pod, resolve.Facts{}); err == nil || !strings.Contains(err.Error(), `is bound to volume "pv-new", but this pod was given "pv-data"`) {
		t.Errorf("it is given another: %v", err)
	}
	for name, want := range map[string]bool{"pv-data": true, "pv-new": false} {
		if used, err := m.Uses(name); used != want || err != nil {
			t.Errorf("%s used: %v, %v", name, used, err)
		}
	}
}

// TestClaimUnprotected: once nothing protects a volume that is being deleted, its folder may be removed at any moment, whatever its
// phase says now. Who has it keeps it.
func TestClaimUnprotected(t *testing.T) {
	s := newStorage()
	_, v := s.bound("data", t.TempDir())
	oursOn(v, "n1")
	m := withStorage(t, s)
	first, second := podWith(claimVolume("data")), podWith(claimVolume("data"))
	second.UID = "uid-2"
	v.DeletionTimestamp, v.Finalizers = new(metav1.Now()), []string{localvolume.Protection, localvolume.Finalizer}
	if _, err := m.Setup(t.Context(), first, resolve.Facts{}); err != nil {
		t.Fatal(err)
	}
	v.Finalizers = []string{localvolume.Finalizer}
	if _, err := m.Setup(t.Context(), second, resolve.Facts{}); err == nil || !strings.Contains(err.Error(), `persistentvolume "pv-data" is being deleted`) {
		t.Errorf("a new pod: %v", err)
	}
	if _, err := m.Setup(t.Context(), first, resolve.Facts{}); err != nil {
		t.Errorf("the pod that has it: %v", err)
	}
}

// TestClaimOfOtherNode: no folder is made for a volume whose content is on another node, though its affinity fits this one.
func TestClaimOfOtherNode(t *testing.T) {
	s := newStorage()
	_, v := s.bound("data", t.TempDir())
	oursOn(v, "n2")
	if _, err := withStorage(t, s).Setup(t.Context(), podWith(claimVolume("data")), resolve.Facts{}); err == nil || !strings.Contains(err.Error(), `its folder is on node "n2"`) {
		t.Errorf("mounted: %v", err)
	}
	if len(s.made) != 0 {
		t.Errorf("folders made: %q", s.made)
	}
}
