package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers/nodetest"
)

const storageDriver = "disks.example.com"

// driver is hack/testcsi, which presents itself to the kubelet.
type driver struct {
	*machine
	data     string
	attached []string
}

func (m *machine) startDriver() *driver {
	m.t.Helper()
	dir, err := os.MkdirTemp("/run", "d")
	if err != nil {
		m.t.Fatal(err)
	}
	d := &driver{machine: m, data: m.t.TempDir()}
	program := filepath.Join(m.t.TempDir(), "testcsi")
	if text, err := exec.Command("go", "build", "-o", program, "../hack/testcsi").CombinedOutput(); err != nil {
		m.t.Fatalf("building testcsi: %v\n%s", err, text)
	}
	cmd := exec.Command(program, "--name="+storageDriver, "--node=node-1", "--endpoint="+filepath.Join(dir, "csi.sock"), "--data="+d.data,
		"--registration="+filepath.Join(m.cfg.RootDir, "plugins_registry", "disks.sock"), "--topology=example.com/rack=r1")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return d
}

func (d *driver) calls() (names []string) {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.data, "calls"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	return names
}

// bound makes a volume and its claim, as provisioner and binder would.
func (d *driver) bound(name string, mode corev1.PersistentVolumeMode) {
	d.t.Helper()
	kube, ctx := d.cluster.Kube.CoreV1(), d.t.Context()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	access := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c, err := kube.PersistentVolumeClaims("default").Create(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: access, VolumeName: "pv-" + name, VolumeMode: &mode, Resources: corev1.VolumeResourceRequirements{Requests: size}, StorageClassName: new("")}}, metav1.CreateOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	v, err := kube.PersistentVolumes().Create(ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: access, VolumeMode: &mode, ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "default", Name: name, UID: c.UID},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: storageDriver, VolumeHandle: name,
			NodeStageSecretRef: &corev1.SecretReference{Namespace: "default", Name: "key"}}}}}, metav1.CreateOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	v.Status.Phase, c.Status = corev1.VolumeBound, corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: size, AccessModes: access}
	if _, err := kube.PersistentVolumes().UpdateStatus(ctx, v, metav1.UpdateOptions{}); err != nil {
		d.t.Fatal(err)
	}
	if _, err := kube.PersistentVolumeClaims("default").UpdateStatus(ctx, c, metav1.UpdateOptions{}); err != nil {
		d.t.Fatal(err)
	}
}

// attach plays the attacher and the controller manager, once the node says that the volume is in use.
func (d *driver) attach(handle string) {
	d.t.Helper()
	name := func(h string) corev1.UniqueVolumeName {
		return corev1.UniqueVolumeName("kubernetes.io/csi/" + storageDriver + "^" + h)
	}
	calls := len(d.calls())
	d.until(handle+" in use", func() (bool, string) {
		return slices.Contains(d.node().Status.VolumesInUse, name(handle)), fmt.Sprint(d.node().Status.VolumesInUse)
	})
	if text := strings.Join(d.calls()[calls:], " "); strings.Contains(text, "Stage") {
		d.t.Errorf("before it was attached the driver was asked %s", text)
	}
	vas := d.cluster.Kube.StorageV1().VolumeAttachments()
	va, err := vas.Create(d.t.Context(), &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("csi-%x", sha256.Sum256([]byte(handle+storageDriver+nodeName)))},
		Spec: storagev1.VolumeAttachmentSpec{Attacher: storageDriver, NodeName: nodeName, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv-" + handle)}}}, metav1.CreateOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	va.Status.Attached = true
	if _, err := vas.UpdateStatus(d.t.Context(), va, metav1.UpdateOptions{}); err != nil {
		d.t.Fatal(err)
	}
	d.attached = append(d.attached, fmt.Sprintf(`{"name":%q,"devicePath":""}`, name(handle)))
	patch := `{"status":{"volumesAttached":[` + strings.Join(d.attached, ",") + `]}}`
	if _, err := d.cluster.Kube.CoreV1().Nodes().Patch(d.t.Context(), nodeName, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		d.t.Fatal(err)
	}
}

func user(name, command string, volumes ...corev1.Volume) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: nodeName, TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(false), Volumes: volumes,
		Containers: []corev1.Container{{Name: "c", Image: nodetest.Image, Command: []string{"sh", "-c", command + "; sleep 10000"}}}}}
	for _, v := range volumes {
		if v.Name == "blk" {
			p.Spec.Containers[0].VolumeDevices = append(p.Spec.Containers[0].VolumeDevices, corev1.VolumeDevice{Name: v.Name, DevicePath: "/dev/" + v.Name})
			continue
		}
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
	}
	return p
}

func claimed(name, claim string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}
}

// TestStorageDrivers: a driver presents itself, and pods use its volumes, with no more rights than a kubelet has; the kubelet ends in the midst.
func TestStorageDrivers(t *testing.T) {
	m := newMachine(t)
	kube := m.cluster.Kube
	m.until("registered", func() (bool, string) { return m.node() != nil, "" })
	if _, err := kube.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(`{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	m.until("ready", func() (bool, string) {
		c := ready(m.node())
		return c != nil && c.Status == corev1.ConditionTrue, fmt.Sprint(c)
	})
	if _, err := kube.StorageV1().CSIDrivers().Create(t.Context(), &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: storageDriver}, Spec: storagev1.CSIDriverSpec{
		AttachRequired: new(true), PodInfoOnMount: new(true), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "key"}, StringData: map[string]string{"key": "x"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	d := m.startDriver()
	m.until("known", func() (bool, string) {
		c, err := kube.StorageV1().CSINodes().Get(t.Context(), nodeName, metav1.GetOptions{})
		return err == nil && len(c.Spec.Drivers) == 1 && c.Spec.Drivers[0].NodeID == "node-1" && m.node().Labels["example.com/rack"] == "r1", fmt.Sprint(c, err)
	})
	d.bound("disk", corev1.PersistentVolumeFilesystem)
	create := func(p *corev1.Pod) {
		t.Helper()
		if _, err := kube.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	own := corev1.Volume{Name: "own", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: storageDriver}}}
	create(user("a", "echo hello > /data/file; cp /own/testcsi.json /data/own", claimed("data", "disk"), own))
	d.attach("disk")
	until := func(name string) *corev1.Pod {
		t.Helper()
		m.until(name+" runs", func() (bool, string) { p := m.pod(name); return podReady(p), tell(p) })
		return m.pod(name)
	}
	sees := func(name, want string) {
		t.Helper()
		m.until(name+" sees it", func() (bool, string) {
			_, text := m.get("caller", "/containerLogs/default/"+name+"/c")
			return text == want, fmt.Sprintf("%q", text)
		})
	}
	a := until("a")
	for file, want := range map[string]string{"file": "hello", "own": `"csi.storage.k8s.io/pod.name": "a"`, "testcsi.json": `"readOnly": false`} {
		m.until("written", func() (bool, string) {
			text, err := os.ReadFile(filepath.Join(d.data, "volumes/disk", file))
			return strings.Contains(string(text), want), fmt.Sprintf("%s: %q, %v", file, text, err)
		})
	}

	// Another pod comes, and the kubelet ends while the driver works for it.
	if err := os.WriteFile(filepath.Join(d.data, "faults/NodePublishVolume"), []byte("hang"), 0o600); err != nil {
		t.Fatal(err)
	}
	published := len(d.calls())
	create(user("b", "cat /data/file", claimed("data", "disk")))
	m.until("asked", func() (bool, string) { return len(d.calls()) > published, "" })
	m.stop()
	if err := os.Remove(filepath.Join(d.data, "faults/NodePublishVolume")); err != nil {
		t.Fatal(err)
	}
	m.start()
	until("b")
	if now := m.pod("a"); now.Status.ContainerStatuses[0].ContainerID != a.Status.ContainerStatuses[0].ContainerID {
		t.Errorf("a was disturbed: %s", tell(now))
	}
	sees("b", "hello\n")

	d.bound("raw", corev1.PersistentVolumeBlock)
	create(user("c", "echo block > /dev/blk; head -c 6 /dev/blk", claimed("blk", "raw")))
	d.attach("raw")
	until("c")
	sees("c", "block\n")

	// All go, and nothing is left.
	for _, name := range []string{"a", "b", "c"} {
		if err := kube.CoreV1().Pods("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	m.until("gone", func() (bool, string) {
		n := m.node()
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(m.cfg.RootDir))
		return m.pod("a") == nil && m.pod("b") == nil && m.pod("c") == nil && len(n.Status.VolumesInUse) == 0 && len(mounts) == 0,
			fmt.Sprint(n.Status.VolumesInUse, len(mounts), err, d.calls())
	})
}
