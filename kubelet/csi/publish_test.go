package csi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestDrivers is all that needs an API server, which is shared.
func TestDrivers(t *testing.T) {
	w := newWorld(t)
	for name, f := range map[string]func(*testing.T, *world){
		"life": life, "crashes": crashes, "states": states, "refusals": refusals, "inline": inline, "told": told, "block": block, "attach": attach,
		"nodes": nodes, "grow": grow, "stats": stats, "away": away, "republished": republished, "group": ofGroup, "reboot": reboot, "lost": lost,
	} {
		t.Run(name, func(t *testing.T) { f(t, w) })
	}
}

// life: two pods share a volume, which is staged once and unstaged after the last.
func life(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{})
	a, b := s.pod("a"), s.pod("b")
	one, two := s.publish(s.volume(a)), s.publish(s.volume(b))
	if want := filepath.Join(s.root, "pods/uid-a/volumes/kubernetes.io~csi/pv-"+s.node+"/mount"); one != want {
		t.Errorf("published at %s, want %s", one, want)
	}
	if err := os.WriteFile(filepath.Join(one, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(two, "file")); string(text) != "x" {
		t.Errorf("the other sees %q, %v", text, err)
	}
	s.publish(s.volume(a)) // disturbs nothing
	s.again()
	s.publish(s.volume(a))
	want := []string{"Stage", "Publish", "Publish"}
	if got := s.calls(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	if req := s.asked("NodeStageVolume"); !strings.HasPrefix(fmt.Sprint(req["staging_target_path"]), filepath.Join(s.root, "plugins/kubernetes.io/csi", s.driver)+"/") ||
		!strings.HasSuffix(fmt.Sprint(req["staging_target_path"]), "/globalmount") {
		t.Errorf("staged at %v", req["staging_target_path"])
	}
	for _, p := range []*corev1.Pod{a, b} {
		if err := s.d.Unpublish(t.Context(), p.UID); err != nil {
			t.Fatal(err)
		}
		if err := s.d.Unpublish(t.Context(), p.UID); err != nil {
			t.Fatal(err)
		}
	}
	s.clean()
	want = append(want, "Unpublish", "Unpublish", "Unstage")
	if got := s.calls(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	if text, err := os.ReadFile(filepath.Join(s.data, "volumes/disk/file")); string(text) != "x" {
		t.Errorf("the volume has %q, %v", text, err)
	}
}

// crashes: the kubelet ends, or the driver fails, at each call, before it has worked and after. The next life makes it good: forward, when the pod
// is still wished for, and back, when it is not.
func crashes(t *testing.T, w *world) {
	for _, call := range []string{"NodeGetCapabilities", "NodeStageVolume", "NodePublishVolume"} {
		for _, how := range []string{"fail UNAVAILABLE gone", "after UNAVAILABLE gone", "hang"} {
			for _, on := range []bool{true, false} {
				t.Run(fmt.Sprint(call, how[:4], on), func(t *testing.T) {
					t.Parallel()
					s := w.begin(t, storagev1.CSIDriverSpec{})
					v := s.volume(s.pod("a"))
					s.fault(call, how)
					ctx, crash := context.WithCancel(t.Context())
					failed := make(chan error, 1)
					go func() {
						_, err := s.d.Publish(ctx, v, nil)
						failed <- err
					}()
					if how == "hang" {
						s.until("the call hangs", func() (bool, string) {
							r, err := read(s.d.disk.useDir(user{v.Pod.UID, v.Name}))
							return r != nil && (call == "NodeGetCapabilities" || slices.Contains(s.calls(), strings.TrimSuffix(strings.TrimPrefix(call, "Node"), "Volume"))), fmt.Sprint(err)
						})
						crash()
					}
					if err := <-failed; err == nil {
						t.Fatal("no error")
					}
					crash()
					s.fault(call, "")
					s.again()
					if on {
						path := s.publish(v)
						if there, err := isMounted(path); !there || err != nil {
							t.Errorf("not mounted: %v", err)
						}
						s.again()
						s.publish(v)
					}
					if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
						t.Fatal(err)
					}
					s.clean()
				})
			}
		}
	}
	for _, call := range []string{"NodeUnpublishVolume", "NodeUnstageVolume"} {
		for _, how := range []string{"fail INTERNAL broken", "after UNAVAILABLE gone"} {
			t.Run(call+how[:4], func(t *testing.T) {
				t.Parallel()
				s := w.begin(t, storagev1.CSIDriverSpec{})
				v := s.volume(s.pod("a"))
				s.publish(v)
				s.fault(call, how)
				err := s.d.Unpublish(t.Context(), v.Pod.UID)
				if call == "NodeUnpublishVolume" {
					if err == nil || !strings.Contains(err.Error(), `UnmountVolume.TearDown failed for volume "pv-`) {
						t.Fatalf("got %v", err)
					}
				} else {
					if err != nil {
						t.Fatal(err)
					}
					s.until("it was tried", func() (bool, string) { return slices.Contains(s.calls(), "Unstage"), "" })
				}
				s.again()
				s.fault(call, "")
				if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
					t.Fatal(err)
				}
				s.register() // as a driver that was away would
				s.clean()
			})
		}
	}
}

// states: whatever a crash between two writes has left on the disk, the next life goes on from there, or back.
func states(t *testing.T, w *world) {
	for name, spoil := range map[string]func(t *testing.T, s *stage, v Volume, use, stage string){
		"staged is not noted": func(t *testing.T, _ *stage, _ Volume, _, stage string) { remove(t, filepath.Join(stage, stagedFile)) },
		"ready is not noted": func(t *testing.T, _ *stage, _ Volume, use, _ string) {
			r, err := read(use)
			if err != nil {
				t.Fatal(err)
			}
			r.Stage = publishing
			if err := write(use, *r); err != nil {
				t.Fatal(err)
			}
		},
		"a write was cut off": func(t *testing.T, _ *stage, _ Volume, use, stage string) {
			for _, dir := range []string{use, stage} {
				if err := os.WriteFile(filepath.Join(dir, recordFile+".new"), []byte(`{"vol`), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"unpublished, not forgotten": func(t *testing.T, s *stage, v Volume, _, _ string) {
			target := s.d.disk.target(user{v.Pod.UID, v.Name}, false)
			if err := unix.Unmount(target, 0); err != nil {
				t.Fatal(err)
			}
			remove(t, target)
		},
		"unstaged, not forgotten": func(t *testing.T, s *stage, v Volume, _, stage string) {
			for _, at := range []string{s.d.disk.target(user{v.Pod.UID, v.Name}, false), filepath.Join(stage, "globalmount")} {
				if err := unix.Unmount(at, 0); err != nil {
					t.Fatal(err)
				}
			}
			remove(t, filepath.Join(stage, stagedFile))
		},
		"nothing": func(*testing.T, *stage, Volume, string, string) {},
	} {
		for _, on := range []bool{true, false} {
			t.Run(fmt.Sprint(name, on), func(t *testing.T) {
				t.Parallel()
				s := w.begin(t, storagev1.CSIDriverSpec{})
				v := s.volume(s.pod("a"))
				s.publish(v)
				s.stop()
				spoil(t, s, v, s.d.disk.useDir(user{v.Pod.UID, v.Name}), s.d.disk.stageDir(v.Driver, v.Handle))
				s.start()
				if on {
					if there, err := isMounted(s.publish(v)); !there || err != nil {
						t.Errorf("not mounted: %v", err)
					}
				}
				if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
					t.Fatal(err)
				}
				s.clean()
			})
		}
	}
	t.Run("the pod is forgotten, not the stage", func(t *testing.T) {
		s := w.begin(t, storagev1.CSIDriverSpec{})
		v := s.volume(s.pod("a"))
		target := s.publish(v)
		s.stop()
		if err := unix.Unmount(target, 0); err != nil {
			t.Fatal(err)
		}
		if err := forget(s.d.disk.useDir(user{v.Pod.UID, v.Name}), target); err != nil {
			t.Fatal(err)
		}
		s.start()
		s.clean()
	})
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// reboot: nothing that was mounted is there any more, though all is noted.
func reboot(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{})
	v := s.volume(s.pod("a"))
	target := s.publish(v)
	s.stop()
	stage := s.d.disk.stageDir(v.Driver, v.Handle)
	for _, at := range []string{target, filepath.Join(stage, "globalmount")} {
		if err := unix.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(stage, stagedFile), []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.publish(v)
	if want := []string{"Stage", "Publish", "Stage", "Publish"}; !slices.Equal(s.calls(), want) {
		t.Errorf("calls %v, want %v", s.calls(), want)
	}
}

// refusals: what users are told.
func refusals(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{})
	v, v2 := s.volume(s.pod("a")), s.volume(s.pod("b"))
	v2.Driver = "nobody.example.com"
	missing := s.volume(s.pod("c"))
	missing.publish = &corev1.SecretReference{Namespace: "default", Name: "none"}
	for _, c := range []struct {
		v    Volume
		call string
		want string
	}{
		{v, "NodeStageVolume", `MountVolume.MountDevice failed for volume "pv-` + s.node + `" : rpc error: code = Internal desc = no disk`},
		{v, "NodePublishVolume", `MountVolume.SetUp failed for volume "pv-` + s.node + `" : rpc error: code = Internal desc = no disk`},
		{missing, "", `secrets "none" not found`},
		{Inline(s.pod("d"), "i", &corev1.CSIVolumeSource{Driver: s.driver}), "", `MountVolume.SetUp failed for volume "i" : volume mode "Ephemeral" not supported by driver ` + s.driver + ` (only supports ["Persistent"])`},
		{Inline(s.pod("d"), "i", &corev1.CSIVolumeSource{Driver: "nobody.example.com"}), "", `volume mode "Ephemeral" not supported by driver nobody.example.com (no CSIDriver object)`},
	} {
		if c.call != "" {
			s.fault(c.call, "fail INTERNAL no disk")
		}
		_, err := s.d.Publish(t.Context(), c.v, nil)
		var f *Failure
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &f) {
			t.Errorf("%s: %v, want %q", c.call, err, c.want)
		}
		if c.call != "" {
			s.fault(c.call, "")
		}
	}
	for _, uid := range []types.UID{"uid-a", "uid-c", "uid-d"} {
		if err := s.d.Unpublish(t.Context(), uid); err != nil {
			t.Error(err)
		}
	}
	s.clean()
}

// away: a driver that is not there is named, and a pod's ready volume needs none.
func away(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{})
	v, other := s.volume(s.pod("a")), s.volume(s.pod("b"))
	s.publish(v)
	s.stop()
	s.start()
	s.d.Deregister(t.Context(), s.driver)
	s.publish(v)
	want := "driver name " + s.driver + " not found in the list of registered CSI drivers"
	if _, err := s.d.Publish(t.Context(), other, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("publishing: %v", err)
	}
	if err := s.d.Unpublish(t.Context(), "uid-b"); err != nil { // nobody was asked for anything
		t.Error(err)
	}
	if err := s.d.Unpublish(t.Context(), "uid-a"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("unpublishing: %v", err)
	}
	s.register()
	if err := s.d.Unpublish(t.Context(), "uid-a"); err != nil {
		t.Error(err)
	}
	s.clean()
}

// inline: a volume of one pod, told who that is.
func inline(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{PodInfoOnMount: new(true), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral}})
	p := s.pod("a")
	v := Inline(p, "i", &corev1.CSIVolumeSource{Driver: s.driver, ReadOnly: new(true), VolumeAttributes: map[string]string{"size": "1"}})
	path := s.publish(v)
	if err := os.WriteFile(filepath.Join(path, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v", err)
	}
	req := s.asked("NodePublishVolume")
	said := fmt.Sprint(req["volume_context"])
	for _, want := range []string{"size:1", "csi.storage.k8s.io/pod.name:a", "csi.storage.k8s.io/pod.namespace:default", "csi.storage.k8s.io/pod.uid:uid-a",
		"csi.storage.k8s.io/serviceAccount.name:sa", "csi.storage.k8s.io/ephemeral:true"} {
		if !strings.Contains(said, want) {
			t.Errorf("told %s, want %s", said, want)
		}
	}
	if id := fmt.Sprint(req["volume_id"]); !strings.HasPrefix(id, "csi-") || len(id) != 68 {
		t.Errorf("called %s", id)
	}
	if err := s.d.Unpublish(t.Context(), p.UID); err != nil {
		t.Fatal(err)
	}
	s.clean()
	if want := []string{"Publish", "Unpublish"}; !slices.Equal(s.calls(), want) {
		t.Errorf("calls %v", s.calls())
	}
}

// told: secrets, tokens, mount options, access modes.
func told(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{TokenRequests: []storagev1.TokenRequest{{Audience: "vault"}}})
	for _, name := range []string{"stage", "publish"} {
		_, err := w.kube.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"key": "of " + name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	v := s.volume(s.pod("a"), func(pv *corev1.PersistentVolume) {
		pv.Spec.MountOptions = []string{"noatime"}
		pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
		pv.Spec.CSI.NodeStageSecretRef = &corev1.SecretReference{Namespace: "default", Name: "stage"}
		pv.Spec.CSI.NodePublishSecretRef = &corev1.SecretReference{Namespace: "default", Name: "publish"}
	})
	s.publish(v)
	staged, published := fmt.Sprint(s.asked("NodeStageVolume")), fmt.Sprint(s.asked("NodePublishVolume"))
	for _, want := range []string{"key:of stage", "fs_type:ext4", "mount_flags:[noatime]", "mode:6"} {
		if !strings.Contains(staged, want) {
			t.Errorf("staged by %s, want %s", staged, want)
		}
	}
	for _, want := range []string{"key:of publish", "a:b", `csi.storage.k8s.io/serviceAccount.tokens:{"vault":{"token":"h.eyJleHAiOjQxMDI0NDQ4MDB9.a-vault","expirationTimestamp":"2100-01-01T00:00:00Z"}}`} {
		if !strings.Contains(published, want) {
			t.Errorf("published by %s, want %s", published, want)
		}
	}
	if strings.Contains(published, "pod.name") {
		t.Errorf("told who the pod is: %s", published)
	}
}
