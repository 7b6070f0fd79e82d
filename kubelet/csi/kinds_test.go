package csi

import (
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

// block: a device, which a loop device is.
func block(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{})
	p := s.pod("a")
	v := s.volume(p, func(pv *corev1.PersistentVolume) { pv.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) })
	path := s.publish(v)
	if want := filepath.Join(s.root, "plugins/kubernetes.io/csi/volumeDevices/publish", v.Name, "uid-a"); path != want {
		t.Errorf("published at %s, want %s", path, want)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode()&os.ModeDevice == 0 {
		t.Errorf("is a %v, %v", st, err)
	}
	s.again()
	s.publish(v)
	if err := s.d.Unpublish(t.Context(), p.UID); err != nil {
		t.Fatal(err)
	}
	s.clean()
	if want := []string{"Stage", "Publish", "Unpublish", "Unstage"}; !slices.Equal(s.calls(), want) {
		t.Errorf("calls %v", s.calls())
	}
}

// attach: nothing is mounted before the node has said that it is in use, and was told that it is attached; and it is in use until it is unstaged.
func attach(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{AttachRequired: new(true)})
	v := s.volume(s.pod("a"))
	done := make(chan error, 1)
	go func() {
		_, err := s.d.Publish(t.Context(), v, nil)
		done <- err
	}()
	name := corev1.UniqueVolumeName("kubernetes.io/csi/" + s.driver + "^disk")
	inUse := func() bool {
		n, err := w.kube.CoreV1().Nodes().Get(t.Context(), s.node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(n.Status.VolumesInUse, name)
	}
	s.until("it is in use", func() (bool, string) { return inUse(), "" })
	if got := s.calls(); len(got) != 0 {
		t.Errorf("calls before it is attached: %v", got)
	}
	vas := w.kube.StorageV1().VolumeAttachments()
	va, err := vas.Create(t.Context(), &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachmentName("disk", s.driver, s.node)},
		Spec: storagev1.VolumeAttachmentSpec{Attacher: s.driver, NodeName: s.node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &v.Name}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	va.Status = storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"lun": "7"}}
	if _, err = vas.UpdateStatus(t.Context(), va, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	patch := fmt.Sprintf(`{"status":{"volumesAttached":[{"name":%q,"devicePath":""}]}}`, name)
	if _, err := w.kube.CoreV1().Nodes().Patch(t.Context(), s.node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if req := fmt.Sprint(s.asked("NodeStageVolume")["publish_context"]); req != "map[lun:7]" {
		t.Errorf("told %s", req)
	}
	s.fault("NodeUnstageVolume", "fail INTERNAL busy")
	if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
		t.Fatal(err)
	}
	s.until("unstaging was tried", func() (bool, string) { return slices.Contains(s.calls(), "Unstage"), "" })
	s.again()
	if !inUse() {
		t.Error("not in use while it is staged")
	}
	s.fault("NodeUnstageVolume", "")
	s.register()
	s.clean()
	s.until("it is not in use", func() (bool, string) { return !inUse(), "" })
}

// republished: a driver that wants it renews what is there, and a failure takes nothing away.
func republished(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{RequiresRepublish: new(true)})
	v := s.volume(s.pod("a"))
	path := s.publish(v)
	s.d.refresh(t.Context(), s.driver, []string{path})
	s.fault("NodePublishVolume", "fail INTERNAL no token")
	s.d.refresh(t.Context(), s.driver, []string{path})
	if want := []string{"Stage", "Publish", "Publish", "Publish"}; !slices.Equal(s.calls(), want) {
		t.Errorf("calls %v", s.calls())
	}
	if want := `*v1.Pod Warning FailedMount MountVolume.SetUp failed for volume "pv-` + s.node + `" : rpc error: code = Internal desc = no token`; !s.events.has(want) {
		t.Errorf("events %q", s.events.all)
	}
	if there, err := isMounted(path); !there || err != nil {
		t.Errorf("not mounted: %v", err)
	}
}

// ofGroup: who gives the volume to the pod's group: nobody, the kubelet, the driver.
func ofGroup(t *testing.T, w *world) {
	for name, c := range map[string]struct {
		policy *storagev1.FSGroupPolicy
		args   []string
		change func(*corev1.PersistentVolume)
		own    bool
		told   string
	}{
		"by default":    {nil, []string{"--without=VOLUME_MOUNT_GROUP"}, nil, true, ""},
		"for many":      {nil, []string{"--without=VOLUME_MOUNT_GROUP"}, func(pv *corev1.PersistentVolume) { pv.Spec.AccessModes[0] = corev1.ReadWriteMany }, false, ""},
		"no fs":         {nil, []string{"--without=VOLUME_MOUNT_GROUP"}, func(pv *corev1.PersistentVolume) { pv.Spec.CSI.FSType = "" }, false, ""},
		"none":          {new(storagev1.NoneFSGroupPolicy), []string{"--without=VOLUME_MOUNT_GROUP"}, nil, false, ""},
		"file":          {new(storagev1.FileFSGroupPolicy), []string{"--without=VOLUME_MOUNT_GROUP"}, func(pv *corev1.PersistentVolume) { pv.Spec.CSI.FSType = "" }, true, ""},
		"read only":     {new(storagev1.FileFSGroupPolicy), []string{"--without=VOLUME_MOUNT_GROUP"}, func(pv *corev1.PersistentVolume) { pv.Spec.CSI.ReadOnly = true }, false, ""},
		"by the driver": {new(storagev1.FileFSGroupPolicy), nil, nil, false, "volume_mount_group:2000"},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.begin(t, storagev1.CSIDriverSpec{FSGroupPolicy: c.policy}, c.args...)
			p := s.pod("a")
			p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(2000))}
			v := s.volume(p)
			if c.change != nil {
				v = s.volume(p, c.change)
			}
			owned := false
			for range 2 { // a failure is made good
				failed := owned
				_, err := s.d.Publish(t.Context(), v, func(string) error {
					owned = true
					if failed {
						return nil
					}
					return errors.New("not yet")
				})
				if (err != nil) != (c.own && !failed) {
					t.Fatal(err)
				}
			}
			if owned != c.own {
				t.Errorf("given to the group: %v", owned)
			}
			if req := fmt.Sprint(s.asked("NodeStageVolume")); strings.Contains(req, "volume_mount_group") != (c.told != "") || !strings.Contains(req, c.told) {
				t.Errorf("staged by %s", req)
			}
		})
	}
}

// lost: somebody has taken away what the driver had made, on this very boot.
func lost(t *testing.T, w *world) {
	t.Run("the driver is asked to undo what it was asked to do", func(t *testing.T) {
		s := w.begin(t, storagev1.CSIDriverSpec{VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral}})
		v := Inline(s.pod("a"), "i", &corev1.CSIVolumeSource{Driver: s.driver})
		if err := unix.Unmount(s.publish(v), 0); err != nil {
			t.Fatal(err)
		}
		s.fault("NodeGetCapabilities", "fail UNAVAILABLE gone")
		if _, err := s.d.Publish(t.Context(), v, nil); err == nil {
			t.Fatal("no error")
		}
		s.again()
		s.fault("NodeGetCapabilities", "")
		if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
			t.Fatal(err)
		}
		if want := []string{"Publish", "Unpublish"}; !slices.Equal(s.calls(), want) {
			t.Errorf("calls %v", s.calls())
		}
		s.clean()
	})
	t.Run("a stage is made again", func(t *testing.T) {
		s := w.begin(t, storagev1.CSIDriverSpec{})
		first, second := s.volume(s.pod("a")), s.volume(s.pod("b"))
		s.publish(first)
		if err := unix.Unmount(filepath.Join(s.d.disk.stageDir(first.Driver, first.Handle), "globalmount"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.d.Publish(t.Context(), second, nil); err == nil || !strings.Contains(err.Error(), "is not staged") {
			t.Fatalf("got %v", err)
		}
		s.publish(second)
		for _, v := range []Volume{first, second} {
			if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
				t.Fatal(err)
			}
		}
		s.clean()
	})
	t.Run("a secret is not there", func(t *testing.T) {
		s := w.begin(t, storagev1.CSIDriverSpec{})
		v := s.volume(s.pod("a"), func(pv *corev1.PersistentVolume) {
			pv.Spec.CSI.NodeStageSecretRef = &corev1.SecretReference{Namespace: "default", Name: "none"}
		})
		if _, err := s.d.Publish(t.Context(), v, nil); err == nil || !strings.Contains(err.Error(), "MountVolume.MountDevice failed") ||
			!strings.Contains(err.Error(), "fetching NodeStageSecretRef default/none failed") {
			t.Errorf("got %v", err)
		}
		if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
			t.Fatal(err)
		}
		s.clean()
	})
}
