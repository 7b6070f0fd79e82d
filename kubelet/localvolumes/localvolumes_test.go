package localvolumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/localvolume"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

// users are pods that use volumes, by the volume.
type users struct {
	released chan struct{}

	mu   sync.Mutex
	uses map[string]bool // guarded by mu
}

func (u *users) Uses(volume string) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.uses[volume], nil
}

func (u *users) Released() <-chan struct{} { return u.released }

func (u *users) set(volume string, uses bool) {
	u.mu.Lock()
	u.uses[volume] = uses
	u.mu.Unlock()
	if !uses {
		u.released <- struct{}{}
	}
}

// events are what users were told.
type events struct {
	mu   sync.Mutex
	told []string // guarded by mu
}

func (e *events) Eventf(_ runtime.Object, _, reason, format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, reason+": "+fmt.Sprintf(format, args...))
}

func (e *events) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.told)
}

// keeper is a kubelet's room with the rights of a kubelet, over a real API server.
type keeper struct {
	*testing.T
	admin  kubernetes.Interface
	node   kubernetes.Interface
	dir    string
	users  *users
	events *events
	stop   func()
}

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	inf := Informer(k.node, "n1")
	room := New(Parts{Dirs: NewDirs(k.dir), Informer: inf, Volumes: k.node.CoreV1().PersistentVolumes(), Users: k.users, Events: k.events}, logging.ForTest(k.T))
	var all sync.WaitGroup
	all.Go(func() { inf.RunWithContext(ctx) })
	all.Go(func() {
		if err := room.Run(ctx); err != nil {
			k.Errorf("the keeper ended: %v", err)
		}
	})
	k.stop = func() { cancel(); all.Wait() }
}

func (k *keeper) until(what string, ok func() error) {
	k.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	k.Fatalf("waited for %s: %v", what, err)
}

func (k *keeper) create(v *corev1.PersistentVolume) {
	k.Helper()
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
	}}}}
	if _, err := k.admin.CoreV1().PersistentVolumes().Create(k.Context(), v, metav1.CreateOptions{}); err != nil {
		k.Fatal(err)
	}
}

// unprotect is what the controller of volumes does once no claim holds one.
func (k *keeper) unprotect(name string) {
	k.Helper()
	k.until("the volume to be unprotected", func() error {
		v, err := k.admin.CoreV1().PersistentVolumes().Get(k.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == localvolume.Protection })
		_, err = k.admin.CoreV1().PersistentVolumes().Update(k.Context(), v, metav1.UpdateOptions{})
		return err
	})
}

func (k *keeper) delete(name string) {
	k.Helper()
	if err := k.admin.CoreV1().PersistentVolumes().Delete(k.Context(), name, metav1.DeleteOptions{}); err != nil {
		k.Fatal(err)
	}
}

func (k *keeper) gone(name string) {
	k.Helper()
	k.until(name+" to be gone", func() error {
		v, err := k.admin.CoreV1().PersistentVolumes().Get(k.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there, %v, %v", v.Finalizers, err)
	})
}

func (k *keeper) there(name string) error {
	_, err := os.Lstat(filepath.Join(k.dir, name))
	return err
}

func (k *keeper) made(name string) {
	k.Helper()
	k.until("the folder of "+name, func() error { return k.there(name) })
}

// TestKeeper is a story of volumes on a node, told to the room with a kubelet's own rights.
func TestKeeper(t *testing.T) {
	c := testcluster.Start(t)
	k := &keeper{T: t, admin: c.Kube, node: c.Clients("system:node:n1", "system:nodes").Kube, dir: filepath.Join(t.TempDir(), "volumes"),
		users: &users{released: make(chan struct{}, 10), uses: map[string]bool{}}, events: &events{}}
	k.start()
	t.Cleanup(func() { k.stop() })
	volumes := func(names ...string) []*corev1.PersistentVolume {
		var out []*corev1.PersistentVolume
		for _, n := range names {
			out = append(out, local(k.dir, n))
		}
		return out
	}

	// Volumes of this node get folders, and those of others none.
	other := local(k.dir, "pvc-theirs")
	other.Labels["pilothouse.dev/local-volume-node"] = "n2"
	kept := local(k.dir, "pvc-kept")
	kept.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	astray := local(k.dir, "pvc-astray")
	astray.Spec.Local.Path = "/somewhere/pvc-astray"
	for _, v := range append(volumes("pvc-1", "pvc-2", "pvc-bound"), other, kept, astray) {
		k.create(v)
	}
	for _, name := range []string{"pvc-1", "pvc-2", "pvc-bound", "pvc-kept"} {
		k.made(name)
		write(t, filepath.Join(k.dir, name, "data"))
	}

	// One that goes is removed, folder and all.
	k.delete("pvc-1")
	k.unprotect("pvc-1")
	k.gone("pvc-1")
	if err := k.there("pvc-1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}

	// One that a pod uses stays until the pod is gone; a restart in between changes nothing.
	k.users.set("pvc-2", true)
	k.delete("pvc-2")
	k.unprotect("pvc-2")
	k.stop()
	k.start()
	k.create(local(k.dir, "pvc-3")) // which is dealt with after those that were there
	k.made("pvc-3")
	if err := k.there("pvc-2/data"); err != nil {
		t.Errorf("what a pod uses: %v", err)
	}
	k.users.set("pvc-2", false)
	k.gone("pvc-2")
	if err := k.there("pvc-2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}

	// One that is still bound keeps its data, though somebody has deleted it.
	v, err := k.admin.CoreV1().PersistentVolumes().Get(t.Context(), "pvc-bound", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v.Status.Phase = corev1.VolumeBound
	if _, err := k.admin.CoreV1().PersistentVolumes().UpdateStatus(t.Context(), v, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	k.delete("pvc-bound")
	k.unprotect("pvc-bound")

	// One to retain goes, its folder stays, and a later life of the kubelet leaves it alone.
	k.delete("pvc-kept")
	k.unprotect("pvc-kept")
	k.gone("pvc-kept")
	k.stop()
	k.start()
	k.delete("pvc-3")
	k.unprotect("pvc-3")
	k.gone("pvc-3")
	for _, name := range []string{"pvc-kept/data", "pvc-bound/data"} {
		if err := k.there(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	v, err = k.admin.CoreV1().PersistentVolumes().Get(t.Context(), "pvc-bound", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v.Status.Phase = corev1.VolumeReleased
	if _, err := k.admin.CoreV1().PersistentVolumes().UpdateStatus(t.Context(), v, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	k.gone("pvc-bound")

	// One whose folder is not ours to remove is told of, and stays.
	k.delete("pvc-astray")
	k.unprotect("pvc-astray")
	k.until("the user to be told", func() error {
		if all := k.events.all(); !slices.Contains(all, "VolumeFailedDelete: folder of volume pvc-astray: "+ErrElsewhere.Error()) {
			return fmt.Errorf("%q", all)
		}
		return nil
	})
	for _, name := range []string{"pvc-theirs", "pvc-astray"} {
		if err := k.there(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a folder for %s: %v", name, err)
		}
		if v, err := k.admin.CoreV1().PersistentVolumes().Get(t.Context(), name, metav1.GetOptions{}); err != nil || len(v.Finalizers) == 0 {
			t.Errorf("%s: %v %v", name, v, err)
		}
	}
}
