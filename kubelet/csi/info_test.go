package csi

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/plugins"
)

// nodes: the CSINode and the node's labels and annotation say which drivers there are.
func nodes(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{}, "--max-volumes=5", "--topology=topology.example.com/zone=a", "--topology=kubernetes.io/hostname=other")
	tell := func() string {
		c, err := w.kube.StorageV1().CSINodes().Get(t.Context(), s.node, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		n, err := w.kube.CoreV1().Nodes().Get(t.Context(), s.node, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		text := fmt.Sprintf("owner %s %s %v; ", c.OwnerReferences[0].Kind, c.OwnerReferences[0].Name, c.OwnerReferences[0].UID == n.UID)
		for _, d := range c.Spec.Drivers {
			text += fmt.Sprintf("%s %s %v", strings.TrimPrefix(d.Name, s.node), d.NodeID, d.TopologyKeys)
			if d.Allocatable != nil {
				text += fmt.Sprint(" ", *d.Allocatable.Count)
			}
			text += "; "
		}
		return text + n.Annotations[nodeIDs] + "; " + n.Labels["topology.example.com/zone"]
	}
	until := func(what, want string) {
		t.Helper()
		s.until(what, func() (bool, string) { return tell() == want, tell() })
	}
	keys := "[kubernetes.io/hostname topology.example.com/zone]"
	here := fmt.Sprintf(`owner Node %s true; .csi.example.com as-%s %s 5; {"%s":"as-%s"}; a`, s.node, s.node, keys, s.driver, s.node)
	until("the driver is told", here)
	other := plugins.Plugin{Name: s.node + ".other", Endpoint: s.sock, Versions: []string{"v1.0.0"}}
	if err := s.d.Register(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	until("both are", fmt.Sprintf(`owner Node %s true; .csi.example.com as-%s %s 5; .other as-%s %s 5; {"%s":"as-%s","%s":"as-%s"}; a`,
		s.node, s.node, keys, s.node, keys, s.driver, s.node, other.Name, s.node))
	s.d.Deregister(t.Context(), other.Name)
	until("one is gone", here)
	s.stopDriver()
	s.startDriver("--max-volumes=9", "--topology=topology.example.com/zone=a")
	s.register()
	until("it has changed", fmt.Sprintf(`owner Node %s true; .csi.example.com as-%s [topology.example.com/zone] 9; {"%s":"as-%s"}; a`, s.node, s.node, s.driver, s.node))
	if err := w.kube.StorageV1().CSINodes().Delete(t.Context(), s.node, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.again()
	until("it is made again", fmt.Sprintf(`owner Node %s true; .csi.example.com as-%s [topology.example.com/zone] 9; {"%s":"as-%s"}; a`, s.node, s.node, s.driver, s.node))
	if err := s.d.Register(t.Context(), plugins.Plugin{Name: "no_name", Endpoint: s.sock, Versions: []string{"1.0.0"}}); err == nil || !strings.Contains(err.Error(), `driver name "no_name"`) {
		t.Errorf("registering one whose name is none: %v", err)
	}
	if err := s.d.Register(t.Context(), plugins.Plugin{Name: "old", Endpoint: s.sock, Versions: []string{"0.3.0"}}); err == nil ||
		!strings.Contains(err.Error(), "none of the CSI versions reported by this driver are supported") {
		t.Errorf("registering an old one: %v", err)
	}
}

func TestGrows(t *testing.T) {
	has := func(text string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(text)}
	}
	for what, change := range map[string]func(*corev1.PersistentVolumeClaim){
		"somebody wants more": func(c *corev1.PersistentVolumeClaim) { c.Spec.Resources.Requests = has("2Gi") },
		"the volume is larger": func(c *corev1.PersistentVolumeClaim) {
			c.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{corev1.ResourceStorage: corev1.PersistentVolumeClaimNodeResizePending}
		},
		"an older resizer": func(c *corev1.PersistentVolumeClaim) {
			c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue}}
		},
	} {
		c := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: has("1Gi")}},
			Status: corev1.PersistentVolumeClaimStatus{Capacity: has("1Gi")}}
		if grows(c) {
			t.Error("a claim that has what it wants grows")
		}
		if change(c); !grows(c) {
			t.Errorf("%s: it does not grow", what)
		}
	}
}

// TestNodeInfo: what the API would refuse is refused to the driver that says it.
func TestNodeInfo(t *testing.T) {
	for _, c := range []struct {
		name, id, key, value string
		want                 string
	}{
		{"Disk.example.com", "i-1", "topology.example.com/zone", "a", ""},
		{"../disk", "i-1", "zone", "a", `driver name "../disk": a lowercase RFC 1123 subdomain`},
		{strings.Repeat("d", 64), "i-1", "zone", "a", "must be no more than 63"},
		{"disk", strings.Repeat("i", 193), "zone", "a", "must be no more than 192"},
		{"disk", "i-1", "a/b/c", "a", `topology key "a/b/c": `},
		{"disk", "i-1", "zone", "a b", `topology value "a b": `},
	} {
		err := nodeInfo{id: c.id, topology: map[string]string{c.key: c.value}}.check(c.name)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestNodeWish(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"zone": "a"}, Annotations: map[string]string{nodeIDs: `{"gone":"x","late":"y"}`}}}
	drivers := map[string]driver{"one": {info: nodeInfo{id: "1", topology: map[string]string{"zone": "b", "rack": "r"}}}}
	ids, labels, err := nodeWish(n, drivers, func(name string) bool { return name == "gone" })
	if ids != `{"late":"y","one":"1"}` || fmt.Sprint(labels) != "map[rack:r]" ||
		err == nil || !strings.Contains(err.Error(), `detected topology value collision: driver reported "zone":"b" but existing label is "zone":"a"`) {
		t.Errorf("got %s, %v, %v", ids, labels, err)
	}
}

// grow: a volume that was enlarged is grown on its node, online and when it is published, and the claim says how it went.
func grow(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{})
	v := s.volume(s.pod("a"))
	claims, volumes := w.kube.CoreV1().PersistentVolumeClaims("default"), w.kube.CoreV1().PersistentVolumes()
	claim := v.Claim.DeepCopy()
	claim.UID, claim.Name = "", "grow"
	claim.Spec = corev1.PersistentVolumeClaimSpec{AccessModes: v.PV.Spec.AccessModes, VolumeName: v.PV.Name, Resources: corev1.VolumeResourceRequirements{Requests: v.PV.Spec.Capacity}}
	made, err := claims.Create(t.Context(), claim, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pv := v.PV.DeepCopy()
	pv.UID = ""
	if pv, err = volumes.Create(t.Context(), pv, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	status := func(size string, conditions ...corev1.PersistentVolumeClaimConditionType) {
		t.Helper()
		c, err := claims.Get(t.Context(), "grow", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}
		for _, k := range conditions {
			c.Status.Conditions = append(c.Status.Conditions, corev1.PersistentVolumeClaimCondition{Type: k, Status: corev1.ConditionTrue})
		}
		if made, err = claims.UpdateStatus(t.Context(), c, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	enlarge := func(size string) {
		t.Helper()
		now, err := volumes.Get(t.Context(), pv.Name, metav1.GetOptions{})
		if err == nil {
			now.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
			pv, err = volumes.Update(t.Context(), now, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	now := func() string {
		t.Helper()
		c, err := claims.Get(t.Context(), "grow", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text := c.Status.Capacity.Storage().String() + " " + string(c.Status.AllocatedResourceStatuses[corev1.ResourceStorage])
		for _, k := range c.Status.Conditions {
			text += " " + string(k.Type)
		}
		return text
	}
	status("1Gi")
	v.Claim, v.PV = made, pv
	path := s.publish(v)
	s.d.refresh(t.Context(), s.driver, []string{path})
	if slices.Contains(s.calls(), "Expand") {
		t.Error("grown for nothing")
	}

	enlarge("2Gi")
	status("1Gi", corev1.PersistentVolumeClaimFileSystemResizePending)
	s.fault("NodeExpandVolume", "fail UNAVAILABLE later")
	s.d.refresh(t.Context(), s.driver, []string{path})
	if got := now(); got != "1Gi NodeResizeInProgress FileSystemResizePending NodeResizeError" || !s.events.has("VolumeResizeFailed") {
		t.Errorf("claim: %s, events %q", got, s.events.all)
	}
	s.fault("NodeExpandVolume", "")
	s.d.refresh(t.Context(), s.driver, []string{path})
	if got := now(); got != "2Gi " {
		t.Errorf("claim: %s", got)
	}
	want := fmt.Sprintf("Normal FileSystemResizeSuccessful MountVolume.NodeExpandVolume succeeded for volume %q %s", v.Name, s.node)
	if !s.events.has("*v1.Pod "+want) || !s.events.has("*v1.PersistentVolumeClaim "+want) {
		t.Errorf("events %q", s.events.all)
	}
	if text, err := os.ReadFile(filepath.Join(s.data, "size/disk")); string(text) != "2147483648" {
		t.Errorf("grown to %s, %v", text, err)
	}

	enlarge("3Gi")
	status("2Gi", corev1.PersistentVolumeClaimFileSystemResizePending)
	s.fault("NodeExpandVolume", "fail OUT_OF_RANGE never")
	s.d.refresh(t.Context(), s.driver, []string{path})
	s.fault("NodeExpandVolume", "")
	s.d.refresh(t.Context(), s.driver, []string{path}) // it was said that it never can
	if got := now(); got != "2Gi NodeResizeInfeasible FileSystemResizePending NodeResizeError" {
		t.Errorf("claim: %s", got)
	}

	// When it is published.
	if err := s.d.Unpublish(t.Context(), v.Pod.UID); err != nil {
		t.Fatal(err)
	}
	status("2Gi")
	v.Claim, v.PV = made, pv
	s.publish(v)
	if got := now(); got != "3Gi " {
		t.Errorf("claim: %s", got)
	}
}

// stats: the driver says how full its volume is, and whether it is well.
func stats(t *testing.T, w *world) {
	s := w.begin(t, storagev1.CSIDriverSpec{})
	v := s.volume(s.pod("a"))
	s.publish(v)
	u, err := s.d.Stats(t.Context(), v.Pod.UID, v.Name)
	if err != nil || *u.Capacity != 1<<30 || *u.Used != 1<<20 || *u.Available != 1<<30-1<<20 || *u.Inodes == 0 || *u.Abnormal {
		t.Errorf("%+v, %v", u, err)
	}
	if err := os.WriteFile(filepath.Join(s.data, "sick"), []byte("a disk is lost"), 0o600); err != nil {
		t.Fatal(err)
	}
	if u, err = s.d.Stats(t.Context(), v.Pod.UID, v.Name); err != nil || !*u.Abnormal || u.Message != "a disk is lost" {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := s.d.Stats(t.Context(), "uid-b", v.Name); err != ErrNoStats {
		t.Errorf("of another pod: %v", err)
	}
}
