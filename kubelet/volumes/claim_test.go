package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/pkg/localvolume"
	"pilothouse.dev/pkg/logging"
)

// storage is a strict Storage: it knows exactly these claims and volumes, by name.
type storage struct {
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	node    *corev1.Node
	made    []string
	looked  func() // before a volume is given
}

func (s *storage) Claim(_ context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	if c := s.claims[name]; c != nil && namespace == "shop" {
		return c, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("persistentvolumeclaims"), name)
}

func (s *storage) Volume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	if s.looked != nil {
		s.looked()
	}
	if v := s.volumes[name]; v != nil {
		return v, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("persistentvolumes"), name)
}

func (s *storage) Node() *corev1.Node { return s.node }

func (s *storage) Make(v *corev1.PersistentVolume) error {
	s.made = append(s.made, v.Name)
	return os.MkdirAll(v.Spec.Local.Path, 0o777)
}

// bound puts a claim and its volume, a folder of node n1, into the storage.
func (s *storage) bound(claim, path string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume) {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: claim, UID: types.UID("uid-" + claim)},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv-" + claim},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-" + claim},
		Spec: corev1.PersistentVolumeSpec{
			ClaimRef:               &corev1.ObjectReference{Namespace: "shop", Name: claim, UID: c.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"h1"}}},
			}}}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound},
	}
	s.claims[claim], s.volumes[v.Name] = c, v
	return c, v
}

func newStorage() *storage {
	return &storage{claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{},
		node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "h1"}}}}
}

func claimVolume(name string) corev1.Volume {
	return volume("v", corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}})
}

func withStorage(t *testing.T, s *storage) *Manager {
	m := manager(t, objects{})
	m.stor = s
	return m
}

// TestClaimRefused: what a pod's user is told while its claim gives nothing.
func TestClaimRefused(t *testing.T) {
	now := metav1.Now()
	type (
		claim = corev1.PersistentVolumeClaim
		pv    = corev1.PersistentVolume
	)
	for name, c := range map[string]struct {
		change func(*storage, *claim, *pv)
		want   string
	}{
		"not there":                       {func(s *storage, _ *claim, _ *pv) { delete(s.claims, "data") }, `persistentvolumeclaim "data" not found`},
		"not bound":                       {func(_ *storage, c *claim, _ *pv) { c.Status.Phase = corev1.ClaimPending }, `persistentvolumeclaim "data" is not bound`},
		"bound to nothing":                {func(_ *storage, c *claim, _ *pv) { c.Spec.VolumeName = "" }, `persistentvolumeclaim "data" is not bound`},
		"lost":                            {func(_ *storage, c *claim, _ *pv) { c.Status.Phase = corev1.ClaimLost }, `persistentvolumeclaim "data" is not bound`},
		"going":                           {func(_ *storage, c *claim, _ *pv) { c.DeletionTimestamp = &now }, `persistentvolumeclaim "data" is being deleted`},
		"a folder that is to be a device": {func(_ *storage, c *claim, v *pv) { v.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) }, "is not a block device"},
		"no such device": {func(_ *storage, c *claim, v *pv) {
			v.Spec.VolumeMode, v.Spec.Local.Path = new(corev1.PersistentVolumeBlock), "/none"
		}, `path "/none" does not exist`},
		"a node's folder that is to be a device": {func(_ *storage, _ *claim, v *pv) {
			v.Spec.HostPath, v.Spec.Local, v.Spec.VolumeMode = &corev1.HostPathVolumeSource{Path: "/proc"}, nil, new(corev1.PersistentVolumeBlock)
		}, "HostPath: volume mode Block: kind of volume is not supported"},
		"no volume":            {func(s *storage, _ *claim, _ *pv) { clear(s.volumes) }, `persistentvolume "pv-data" not found`},
		"another's volume":     {func(_ *storage, _ *claim, v *pv) { v.Spec.ClaimRef.UID = "other" }, `persistentvolume "pv-data" is not bound to persistentvolumeclaim "data"`},
		"nobody's volume":      {func(_ *storage, _ *claim, v *pv) { v.Spec.ClaimRef = nil }, `persistentvolume "pv-data" is not bound to`},
		"the volume is going":  {func(_ *storage, _ *claim, v *pv) { v.DeletionTimestamp, v.Status.Phase = &now, corev1.VolumeReleased }, `persistentvolume "pv-data" is being deleted`},
		"another node's":       {func(s *storage, _ *claim, _ *pv) { s.node.Labels[corev1.LabelHostname] = "h2" }, `MountVolume.NodeAffinity check failed for volume "pv-data" : no matching NodeSelectorTerms`},
		"no node yet":          {func(s *storage, _ *claim, _ *pv) { s.node = nil }, "this node has not been read yet"},
		"no folder":            {func(_ *storage, _ *claim, v *pv) { v.Spec.Local.Path += "/none" }, "/none\" does not exist"},
		"no folder but a file": {func(_ *storage, _ *claim, v *pv) { v.Spec.Local.Path = "/proc/version" }, "is not a directory"},
		"a driver's": {func(_ *storage, _ *claim, v *pv) {
			v.Spec.Local, v.Spec.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: "csi.example.com"}
		}, `persistentvolume "pv-data": CSI: kind of volume is not supported by this kubelet`},
		"a bucket's": {func(_ *storage, _ *claim, v *pv) {
			v.Spec.Local, v.Spec.CephFS = nil, &corev1.CephFSPersistentVolumeSource{}
		}, "CephFS: kind of volume is not supported"},
		"strange mount": {func(_ *storage, _ *claim, v *pv) { v.Spec.MountOptions = []string{"noatime", "hard"} }, `mount option "hard" is not supported`},
		"a node's file that is a folder": {func(_ *storage, _ *claim, v *pv) {
			v.Spec.HostPath, v.Spec.Local = &corev1.HostPathVolumeSource{Path: "/proc", Type: new(corev1.HostPathFile)}, nil
		}, "is not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStorage()
			c1, v := s.bound("data", t.TempDir())
			c.change(s, c1, v)
			m := withStorage(t, s)
			pod := podWith(claimVolume("data"))
			_, err := m.Setup(t.Context(), pod, resolve.Facts{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "MountVolume.") {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
			if used, err := m.Uses("pv-data"); used || err != nil {
				t.Errorf("it is used all the same: %v", err)
			}
		})
	}
}

func TestClaim(t *testing.T) {
	s := newStorage()
	path, host := t.TempDir(), filepath.Join(t.TempDir(), "made")
	s.bound("data", path)
	_, onHost := s.bound("host", "")
	onHost.Spec.Local, onHost.Spec.HostPath = nil, &corev1.HostPathVolumeSource{Path: host, Type: new(corev1.HostPathDirectoryOrCreate)}
	c, _ := s.bound("p-own", path)
	pod := podWith(claimVolume("data"), claimVolume("host"), volume("own", corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}))
	pod.Name, pod.Spec.Volumes[1].Name, pod.Spec.Volumes[1].PersistentVolumeClaim.ReadOnly = "p", "host", true
	m := withStorage(t, s)
	if _, err := m.Setup(t.Context(), pod, resolve.Facts{}); err == nil || !strings.Contains(err.Error(), "PVC shop/p-own was not created for pod shop/p (pod is not owner)") {
		t.Fatalf("a claim that is not the pod's: %v", err)
	}
	c.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))}
	vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if v := vols["v"]; v.Path != path || v.ReadOnly {
		t.Errorf("%+v", v)
	}
	if v := vols["own"]; v.Path != path || v.ReadOnly {
		t.Errorf("%+v", v)
	}
	if v := vols["host"]; v.Path != host || !v.ReadOnly {
		t.Errorf("%+v", v)
	}
	if _, err := os.Stat(host); err != nil {
		t.Error(err)
	}
	if got, err := vols["v"].Sub("deep/down", "c", 0); err != nil || !strings.HasPrefix(got, m.root) {
		t.Errorf("a sub path is at %s, %v", got, err)
	}
	if _, err := os.Stat(path + "/deep/down"); err != nil {
		t.Error(err)
	}

	// In a later life of the kubelet the claim is being deleted, which waits for this very pod: it goes on.
	now := metav1.Now()
	for _, c := range s.claims {
		c.DeletionTimestamp = &now
	}
	second := New(m.root, Parts{Look: objects{}, Tokens: &tokens{}, Storage: s}, logging.ForTest(t))
	if _, err := second.Setup(t.Context(), pod, resolve.Facts{}); err != nil {
		t.Errorf("a pod that has it already: %v", err)
	}
	for _, name := range []string{"pv-data", "pv-host", "pv-p-own"} {
		if used, err := second.Uses(name); !used || err != nil {
			t.Errorf("%s is not used: %v", name, err)
		}
	}
	if err := second.Teardown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.Released():
	default:
		t.Error("nobody is told that it is released")
	}
	if used, err := second.Uses("pv-data"); used || err != nil {
		t.Errorf("it is still used: %v", err)
	}
	if _, err := os.Stat(path + "/deep/down"); err != nil {
		t.Errorf("the data: %v", err)
	}
}

// TestClaimInUseFirst: a volume is marked before it is looked at, so that who removes folders either sees the mark or is seen.
func TestClaimInUseFirst(t *testing.T) {
	s := newStorage()
	_, v := s.bound("data", t.TempDir())
	v.Annotations, v.Labels = map[string]string{"pv.kubernetes.io/provisioned-by": localvolume.Provisioner}, map[string]string{localvolume.NodeLabel: "n1"}
	m := withStorage(t, s)
	looked := false
	s.looked = func() {
		used, err := m.Uses("pv-data")
		if looked = true; !used || err != nil {
			t.Errorf("it was looked at before it was marked: %v", err)
		}
	}
	if _, err := m.Setup(t.Context(), podWith(claimVolume("data")), resolve.Facts{}); err != nil || !looked {
		t.Errorf("%v %v", looked, err)
	}
	if len(s.made) != 1 || s.made[0] != "pv-data" {
		t.Errorf("folders made: %q", s.made)
	}
}

// TestClaimForOnePod: ReadWriteOncePod, on one node.
func TestClaimForOnePod(t *testing.T) {
	s := newStorage()
	c, _ := s.bound("data", t.TempDir())
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	m := withStorage(t, s)
	first, second := podWith(claimVolume("data")), podWith(claimVolume("data"))
	second.UID = "uid-2"
	for range 2 { // again is no other
		if _, err := m.Setup(t.Context(), first, resolve.Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	const want = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
	if _, err := m.Setup(t.Context(), second, resolve.Facts{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a second pod: %v", err)
	}
	if err := m.Teardown(t.Context(), first.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Setup(t.Context(), second, resolve.Facts{}); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

// TestClaimOfGroup gives what is in a volume to the pod's group, and never what a link in it leads to.
func TestClaimOfGroup(t *testing.T) {
	path, outside := t.TempDir(), t.TempDir()
	precious := outside + "/precious"
	for _, file := range []string{path + "/in/file", precious} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"/out": outside, "/in/out": precious} {
		if err := os.Symlink(to, path+link); err != nil {
			t.Fatal(err)
		}
	}
	s := newStorage()
	s.bound("data", path)
	m := withStorage(t, s)
	gid, policy := int64(2000), corev1.FSGroupChangeOnRootMismatch
	pod := podWith(claimVolume("data"))
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &gid, FSGroupChangePolicy: &policy}
	setup := func() {
		t.Helper()
		if _, err := m.Setup(t.Context(), pod, resolve.Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(file string, gid uint32, mode os.FileMode) {
		t.Helper()
		st, err := os.Lstat(file)
		if err != nil || st.Sys().(*syscall.Stat_t).Gid != gid || st.Mode()&(os.ModePerm|os.ModeSetgid) != mode {
			t.Errorf("%s: %v %+v %v", file, st.Mode(), st.Sys(), err)
		}
	}
	setup()
	is(path, 2000, 0o775|os.ModeSetgid)
	is(path+"/in", 2000, 0o775|os.ModeSetgid)
	is(path+"/in/file", 2000, 0o660)
	is(precious, 0, 0o600)
	is(outside, 0, 0o755)

	// A container has changed it, and the volume is set up for the pod again: it is left alone.
	if err := os.Chown(path+"/in/file", 0, 0); err != nil {
		t.Fatal(err)
	}
	setup()
	is(path+"/in/file", 0, 0o660)
	again := func(policy corev1.PodFSGroupChangePolicy) {
		t.Helper()
		if err := m.Teardown(t.Context(), pod.UID); err != nil {
			t.Fatal(err)
		}
		pod.Spec.SecurityContext.FSGroupChangePolicy = &policy
		setup()
	}
	again(corev1.FSGroupChangeOnRootMismatch) // another pod: the root is as it should be
	is(path+"/in/file", 0, 0o660)
	again(corev1.FSGroupChangeAlways)
	is(path+"/in/file", 2000, 0o660)
}

// TestClaimWithOptions mounts a folder of the node with the volume's options.
func TestClaimWithOptions(t *testing.T) {
	path := t.TempDir()
	s := newStorage()
	_, v := s.bound("data", path)
	v.Spec.MountOptions = []string{"ro", "noexec", "nosuid", "rw"}
	m := withStorage(t, s)
	pod := podWith(claimVolume("data"))
	for range 2 {
		vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
		if err != nil {
			t.Fatal(err)
		}
		at := vols["v"].Path
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil || st.Flags&(unix.ST_NOEXEC|unix.ST_NOSUID|unix.ST_RDONLY) != unix.ST_NOEXEC|unix.ST_NOSUID {
			t.Errorf("%s: %+v %v", at, st, err)
		}
		if err := os.WriteFile(at+"/kept", []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
		if n := mountedBelow(t, m.root); n != 1 {
			t.Errorf("%d mounts", n)
		}
	}
	if err := m.Teardown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if n := mountedBelow(t, m.root); n != 0 || content(t, path+"/kept") != "x" {
		t.Errorf("%d mounts are left, or the data is gone", n)
	}
}
