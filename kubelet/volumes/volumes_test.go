package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/pkg/logging"
)

// objects is a strict Lookup: it knows exactly these, by kind/namespace/name.
type objects map[string]map[string]string

func (o objects) ConfigMap(ns, name string) (*corev1.ConfigMap, error) {
	d, ok := o["configmap/"+ns+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name)
	}
	return &corev1.ConfigMap{Data: d}, nil
}

func (o objects) Secret(ns, name string) (*corev1.Secret, error) {
	d, ok := o["secret/"+ns+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
	}
	s := &corev1.Secret{Data: map[string][]byte{}}
	for k, v := range d {
		s.Data[k] = []byte(v)
	}
	return s, nil
}

func (o objects) TrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error) {
	d, ok := o["bundle//"+name]
	if !ok {
		return nil, apierrors.NewNotFound(certificatesv1.Resource("clustertrustbundles"), name)
	}
	return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"use": d["use"]}},
		Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: d["signer"], TrustBundle: d["pem"]}}, nil
}

func (o objects) TrustBundles(signer string) ([]*certificatesv1.ClusterTrustBundle, error) {
	var all []*certificatesv1.ClusterTrustBundle
	for key, d := range o {
		if name, is := strings.CutPrefix(key, "bundle//"); is && d["signer"] == signer {
			b, err := o.TrustBundle(name)
			if err != nil {
				return nil, err
			}
			all = append(all, b)
		}
	}
	return all, nil
}

// tokens gives out token 1, 2 … each time it is asked; a moment after it is given, the first is to be renewed.
type tokens struct {
	mu        sync.Mutex
	asked     int
	forgotten []types.UID
}

func (k *tokens) Token(_ context.Context, _ *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p.Audience == "refused" {
		return "", time.Time{}, errors.New("no token for you")
	}
	k.asked++
	renew := time.Now().Add(time.Hour)
	if k.asked == 1 {
		renew = time.Now().Add(time.Millisecond)
	}
	return fmt.Sprint("token ", k.asked), renew, nil
}

func (k *tokens) Forget(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgotten = append(k.forgotten, uid)
}

func tokenVolume(name, audience string) corev1.Volume {
	return volume(name, corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: audience}},
	}}})
}

// TestTokens: a token is written for its reader alone, renewed by the clock, and forgotten with the pod.
func TestTokens(t *testing.T) {
	give := &tokens{}
	m := manager(t, objects{})
	m.toks = give
	pod := podWith(tokenVolume("id", ""))
	user := int64(1234)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
	pod.Spec.Containers = []corev1.Container{{Name: "a"}, {Name: "b"}}
	vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	file := vols["id"].Path + "/token"
	if got := content(t, file); got != "token 1" {
		t.Errorf("holds %q", got)
	}
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if owner := st.Sys().(*syscall.Stat_t).Uid; owner != 1234 || st.Mode().Perm() != 0o600 {
		t.Errorf("of user %d, mode %v", owner, st.Mode())
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(20 * time.Second); content(t, file) != "token 2"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not renewed: %q", content(t, file))
		}
	}
	cancel()
	all.Wait()
	if err := m.Teardown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if len(give.forgotten) != 1 || give.forgotten[0] != pod.UID {
		t.Errorf("forgotten: %v", give.forgotten)
	}
	_, err = m.Setup(t.Context(), podWith(tokenVolume("id", "refused")), resolve.Facts{})
	if err == nil || !strings.Contains(err.Error(), "no token for you") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyUser(t *testing.T) {
	user := func(id int64) *corev1.SecurityContext { return &corev1.SecurityContext{RunAsUser: &id} }
	root, one := int64(0), int64(1)
	for _, c := range []struct {
		name  string
		whole *int64
		each  []*corev1.SecurityContext
		want  *int64
	}{
		{"the image's", nil, []*corev1.SecurityContext{nil}, nil},
		{"the pod's", &one, []*corev1.SecurityContext{nil, nil}, &one},
		{"the same", nil, []*corev1.SecurityContext{user(1), user(1)}, &one},
		{"root", &one, []*corev1.SecurityContext{user(0)}, &root},
		{"different", &one, []*corev1.SecurityContext{nil, user(2)}, nil},
		{"one not known", nil, []*corev1.SecurityContext{user(1), nil}, nil},
	} {
		p := podWith()
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: c.whole}
		for _, s := range c.each {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{SecurityContext: s})
		}
		if got := onlyUser(p); (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func podWith(vols ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid-1", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Volumes: vols},
	}
}

func volume(name string, src corev1.VolumeSource) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: src}
}

// manager is a Manager that leaves nothing mounted.
func manager(t *testing.T, look Lookup) *Manager {
	t.Helper()
	m := New(t.TempDir(), Parts{Look: look, Tokens: &tokens{}}, logging.ForTest(t))
	t.Cleanup(func() {
		if err := unmountBelow(m.root); err != nil {
			t.Error(err)
		}
	})
	return m
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mountedBelow(t *testing.T, dir string) int {
	t.Helper()
	m, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	return len(m)
}

func TestSetupAndTeardown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("these tests mount, so they need root")
	}
	limit, m0400, gid := resource.MustParse("1Mi"), int32(0o400), int64(2000)
	look := objects{
		"configmap/shop/settings": {"a": "1", "b": "2"},
		"secret/shop/keys":        {"token": "s3cret"},
	}
	host := t.TempDir()
	pod := podWith(
		volume("scratch", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
		volume("memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &limit}}),
		volume("host", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}),
		volume("settings", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}),
		volume("keys", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys", Items: []corev1.KeyToPath{{Key: "token", Path: "deep/down", Mode: &m0400}}}}),
		volume("me", corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}}),
		volume("all", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}}},
		}}}),
	)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &gid}
	m := manager(t, look)
	vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		vols["settings"].Path + "/a": "1", vols["settings"].Path + "/b": "2", vols["keys"].Path + "/deep/down": "s3cret",
		vols["me"].Path + "/labels": `app="web"`, vols["all"].Path + "/a": "1", vols["all"].Path + "/token": "s3cret",
	} {
		if got := content(t, path); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	if vols["host"].Path != host {
		t.Errorf("host path is at %s", vols["host"].Path)
	}
	st, err := os.Stat(vols["keys"].Path + "/deep/down")
	if err != nil || st.Mode().Perm() != 0o440 {
		t.Errorf("mode of a secret for a group is %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(vols["scratch"].Path); err != nil || st.Mode()&os.ModeSetgid == 0 || st.Mode().Perm() != 0o777 {
		t.Errorf("mode of an empty folder is %v, %v", st.Mode(), err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(vols["memory"].Path, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Blocks*uint64(fs.Bsize) != 1<<20 {
		t.Errorf("memory volume: %+v, %v", fs, err)
	}
	if n := mountedBelow(t, m.root); n != 3 {
		t.Errorf("%d mounts, want 3: memory, keys, all", n)
	}

	// Again, as after a restart: nothing is disturbed.
	if err := os.WriteFile(vols["memory"].Path+"/kept", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Readlink(vols["settings"].Path + "/..data")
	if err != nil {
		t.Fatal(err)
	}
	second := New(m.root, Parts{Look: look, Tokens: &tokens{}}, logging.ForTest(t))
	if _, err := second.Setup(t.Context(), pod, resolve.Facts{}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Readlink(vols["settings"].Path + "/..data"); err != nil || after != before {
		t.Errorf("unchanged content was written anew: %s, %s, %v", before, after, err)
	}
	if content(t, vols["memory"].Path+"/kept") != "x" || mountedBelow(t, m.root) != 3 {
		t.Error("a second setup disturbed the volumes")
	}

	if uids, err := second.Pods(); err != nil || len(uids) != 1 || uids[0] != pod.UID {
		t.Errorf("pods with folders: %v, %v", uids, err)
	}
	for range 2 {
		if err := second.Teardown(t.Context(), pod.UID); err != nil {
			t.Fatal(err)
		}
	}
	if n := mountedBelow(t, m.root); n != 0 {
		t.Errorf("%d mounts left", n)
	}
	if _, err := os.Stat(vols["settings"].Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("content is left: %v", err)
	}
	if _, err := os.Stat(host); err != nil {
		t.Errorf("the node's own folder is gone: %v", err)
	}
}

func TestContentFollowsObjects(t *testing.T) {
	look := objects{"configmap/shop/settings": {"a": "1", "old": "x"}}
	pod := podWith(volume("settings", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}))
	m := manager(t, look)
	vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	look["configmap/shop/settings"] = map[string]string{"a": "2", "new": "y"}
	go m.Run(t.Context())
	m.Renew(pod.UID, nil)
	m.Renew("uid-nobody", nil)
	deadline := time.Now().Add(10 * time.Second)
	for ; ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(vols["settings"].Path + "/a") // who follows the link to the old content may find it gone
		if err == nil && string(b) == "2" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the content was not renewed: %q, %v", b, err)
		}
	}
	for ; ; time.Sleep(time.Millisecond) { // links come just after the content
		names, err := filepath.Glob(vols["settings"].Path + "/[^.]*")
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 2 && filepath.Base(names[0]) == "a" && filepath.Base(names[1]) == "new" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("files are %v", names)
		}
	}
}

func TestMissing(t *testing.T) {
	yes := true
	for _, tc := range []struct {
		name string
		src  corev1.VolumeSource
		want string // empty: fine
	}{
		{"map", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "no"}}}, `configmap "no" not found`},
		{"optional map", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "no"}, Optional: &yes}}, ""},
		{"secret", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "no"}}, `secret "no" not found`},
		{"key", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Items: []corev1.KeyToPath{{Key: "no", Path: "p"}}}}, "configmap references non-existent config key: no"},
		{"path that leaves", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Items: []corev1.KeyToPath{{Key: "a", Path: "../p"}}}}, "does not stay"},
		{"kind", corev1.VolumeSource{Glusterfs: &corev1.GlusterfsVolumeSource{}}, "not supported"},
		{"host file", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/dev/null", Type: new(corev1.HostPathDirectory)}}, "hostPath type check failed: /dev/null is not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := manager(t, objects{"configmap/shop/settings": {"a": "1"}})
			_, err := m.Setup(t.Context(), podWith(volume("v", tc.src)), resolve.Facts{})
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `volume "v"`) {
				t.Fatalf("error %v, want one that says %q and names the volume", err, tc.want)
			}
		})
	}
}

// TestSub: a sub path is what it was when it was looked at, and never outside of the volume.
func TestSub(t *testing.T) {
	root, subs := t.TempDir(), t.TempDir()
	t.Cleanup(func() {
		if err := unmountBelow(subs); err != nil {
			t.Error(err)
		}
	})
	for path, text := range map[string]string{"file": "in the volume", "deep/down/passwd": "in the volume", "etc/passwd": "in the volume"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "/etc", "up": "../../../../etc/passwd", "gone": "/nowhere/at/all"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(root, 0, 2000), os.Chmod(root, 0o775|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	v := Volume{Path: root, subs: subs}
	for i, c := range []struct{ sub, file string }{{"file", ""}, {"deep", "/down/passwd"}, {"out", "/passwd"}, {"out/passwd", ""}, {"up", ""}} {
		got, err := v.Sub(c.sub, "c", i)
		if err != nil || !strings.HasPrefix(got, subs) || content(t, got+c.file) != "in the volume" {
			t.Errorf("%s is at %s, %v", c.sub, got, err)
		}
	}
	made, err := v.Sub("a/b", "c", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/a", "/a/b"} {
		if st, err := os.Stat(root + dir); err != nil || st.Mode() != 0o775|os.ModeDir|os.ModeSetgid || st.Sys().(*syscall.Stat_t).Gid != 2000 {
			t.Errorf("a new sub path: %v, %v", st, err)
		}
	}
	// The attack: who shares the volume turns the folder into a link after it was looked at.
	if err := os.Rename(root+"/a", root+"/was"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(root+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", root+"/a/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(made + "/passwd"); err == nil {
		t.Error("the host's files are in the container")
	}
	if got, err := v.Sub("deep", "c", 10); err != nil || got != made || content(t, got+"/down/passwd") != "in the volume" { // a second life of the container
		t.Errorf("again: %s, %v", got, err)
	}
	for bad, why := range map[string]string{
		"../x": "must not contain '..'", "deep/../../x": "must not contain '..'", "/x": "must not be an absolute path", "gone/x": "not a directory",
		"file/x": "not a directory", "file/x/y": "not a directory",
	} {
		if got, err := v.Sub(bad, "c", 11); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s is at %s, %v", bad, got, err)
		}
	}
	if _, err := (Volume{Path: root, ReadOnly: true, subs: subs}).Sub("none", "c", 12); err == nil {
		t.Error("a missing sub path of a read-only volume is no error")
	}
	if n := mountedBelow(t, root); n != 0 {
		t.Errorf("%d mounts within the volume", n)
	}
}

// A reader must never see the old content of one file beside the new content of another.
func TestWriteIsAtomic(t *testing.T) {
	dir := t.TempDir()
	set := func(i int) {
		s := []byte(fmt.Sprint(i))
		if err := write(dir, map[string]file{"a": {data: s, mode: 0o644}, "b": {data: s, mode: 0o644}}, nil); err != nil {
			t.Error(err)
		}
	}
	set(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; i < 200; i++ {
			set(i)
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		now, err := os.Readlink(dir + "/" + dataLink)
		if err != nil {
			t.Fatal(err)
		}
		a, errA := os.ReadFile(filepath.Join(dir, now, "a"))
		b, errB := os.ReadFile(filepath.Join(dir, now, "b"))
		if errA == nil && errB == nil && string(a) != string(b) {
			t.Fatalf("one content holds %s and %s", a, b)
		}
	}
	if content(t, dir+"/a") != "199" {
		t.Errorf("the last content is %s", content(t, dir+"/a"))
	}
}
