package volumes

import (
	"context"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/resolve"
)

func amount(kind corev1.ResourceName, text string) corev1.ResourceList {
	return corev1.ResourceList{kind: resource.MustParse(text)}
}

func TestMemoryLimit(t *testing.T) {
	node := amount("memory", "1Gi")
	bounded := corev1.Container{Resources: corev1.ResourceRequirements{Limits: amount("memory", "64Mi")}}
	for _, c := range []struct {
		name       string
		own        string
		containers []corev1.Container
		node       corev1.ResourceList
		want       string
	}{
		{"the node's", "", []corev1.Container{{}}, node, "1Gi"},
		{"no more than the node has", "2Gi", []corev1.Container{{}}, node, "1Gi"},
		{"its own", "10Mi", []corev1.Container{bounded}, node, "10Mi"},
		{"the pod's", "", []corev1.Container{bounded, bounded}, node, "128Mi"},
		{"no more than the pod has", "1Gi", []corev1.Container{bounded}, node, "64Mi"},
		{"a container without a limit", "", []corev1.Container{bounded, {}}, node, "1Gi"},
		{"nothing is known", "", []corev1.Container{{}}, nil, "0"},
		{"a limit of nothing", "0", []corev1.Container{{}}, node, "1Gi"},
	} {
		p := podWith()
		p.Spec.Containers = c.containers
		var own *resource.Quantity
		if c.own != "" {
			own = new(resource.MustParse(c.own))
		}
		want := resource.MustParse(c.want)
		if got := memoryLimit(p, own, c.node); got != want.Value() {
			t.Errorf("%s: %d, want %s", c.name, got, c.want)
		}
	}
}

func TestPageSize(t *testing.T) {
	asks := func(kinds ...corev1.ResourceName) *corev1.Pod {
		p := podWith()
		for _, k := range kinds {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: corev1.ResourceRequirements{Requests: amount(k, "4Mi")}})
		}
		return p
	}
	whole := asks("memory")
	whole.Spec.Resources = &corev1.ResourceRequirements{Requests: amount("hugepages-1Gi", "1Gi")}
	for _, c := range []struct {
		name   string
		pod    *corev1.Pod
		medium corev1.StorageMedium
		want   int64
		fails  string
	}{
		{"the only one", asks("memory", "hugepages-2Mi"), "HugePages", 2 << 20, ""},
		{"the only one, twice", asks("hugepages-2Mi", "hugepages-2Mi"), "HugePages", 2 << 20, ""},
		{"of the pod", whole, "HugePages", 1 << 30, ""},
		{"named", asks("hugepages-1Gi", "hugepages-2Mi"), "HugePages-2Mi", 2 << 20, ""},
		{"none", asks("memory"), "HugePages", 0, "of 0 sizes, want one"},
		{"two", asks("hugepages-1Gi", "hugepages-2Mi"), "HugePages", 0, "of 2 sizes, want one"},
		{"another", asks("hugepages-1Gi"), "HugePages-2Mi", 0, "requests no huge pages of that size"},
		{"no size", asks("hugepages-2Mi"), "HugePages-x", 0, `medium "HugePages-x"`},
		{"no size is requested", asks("hugepages-x"), "HugePages", 0, "hugepages-x"},
	} {
		got, err := pageSize(c.pod, c.medium)
		if got != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}

// TestMedia: what is mounted for an emptyDir, its mode and its group, and that a second setup leaves what a container has changed.
func TestMedia(t *testing.T) {
	gid := int64(2000)
	for _, group := range []*int64{nil, &gid} {
		mode, owner := fs.ModeDir|0o777, uint32(0)
		if group != nil {
			mode, owner = mode|fs.ModeSetgid, uint32(gid)
		}
		for medium, kind := range map[corev1.StorageMedium]string{"": "", "Memory": "tmpfs", "HugePages-2Mi": "hugetlbfs"} {
			m := manager(t, objects{})
			pod := podWith(volume("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium, SizeLimit: new(resource.MustParse("4Mi"))}}))
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: group}
			pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: amount("hugepages-2Mi", "4Mi")}}}
			vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
			if err != nil {
				t.Fatalf("%q: %v", medium, err)
			}
			dir := vols["v"].Path
			st, err := os.Stat(dir)
			if err != nil || st.Mode()&^fs.ModeSticky != mode || st.Sys().(*syscall.Stat_t).Gid != owner {
				t.Errorf("%q, group %v: mode %v, %v, want %v of %d", medium, group, st.Mode(), err, mode, owner)
			}
			mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
			if err != nil || (len(mounts) == 1) != (kind != "") || kind != "" && mounts[0].FSType != kind {
				t.Errorf("%q: mounts %v, %v", medium, mounts, err)
			}
			if medium == "HugePages-2Mi" && !strings.Contains(mounts[0].VFSOptions, "pagesize=2M") {
				t.Errorf("huge pages: %s", mounts[0].VFSOptions)
			}
			if medium == "HugePages-2Mi" {
				continue
			}
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Setup(t.Context(), pod, resolve.Facts{}); err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
				t.Errorf("%q: what a container has set is gone: %v, %v", medium, st.Mode(), err)
			}
		}
	}
}

// TestEmptyDirAfterACrash: a folder that a former kubelet had not finished is not used.
func TestEmptyDirAfterACrash(t *testing.T) {
	m := manager(t, objects{})
	pod := podWith(volume("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}))
	left := EmptyDir(m.root, pod.UID, "v") + ".new"
	if err := os.MkdirAll(left, 0o750); err != nil {
		t.Fatal(err)
	}
	vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(vols["v"].Path); err != nil || st.Mode().Perm() != 0o777 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", at("link")); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.Mknod(at("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path  string
		kind  corev1.HostPathType
		fails string // empty: fine
	}{
		{"file", "", ""}, {"file", "File", ""}, {"link", "File", ""}, {"file", "FileOrCreate", ""},
		{".", "Directory", ""}, {".", "DirectoryOrCreate", ""}, {"socket", "Socket", ""}, {"/dev/null", "CharDevice", ""}, {"block", "BlockDevice", ""},
		{"new", "", ""}, {"new-folder/deep", "DirectoryOrCreate", ""}, {"new-file", "FileOrCreate", ""},
		{"none/file", "FileOrCreate", "no such file or directory"},
		{"none", "File", "is not a file"}, {"none", "Directory", "is not a directory"}, {"none", "Socket", "is not a socket file"},
		{".", "File", "is not a file"}, {".", "FileOrCreate", "is not a file"}, {"file", "Directory", "is not a directory"}, {"file", "DirectoryOrCreate", "is not a directory"},
		{"file", "Socket", "is not a socket file"}, {"file", "CharDevice", "is not a character device"}, {"/dev/null", "BlockDevice", "is not a block device"},
		{"block", "CharDevice", "is not a character device"}, {"file", "Pipe", "Pipe is an invalid volume type"},
	} {
		path := c.path
		if !filepath.IsAbs(path) {
			path = at(path)
		}
		m := manager(t, objects{})
		vols, err := m.Setup(t.Context(), podWith(volume("v", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &c.kind}})), resolve.Facts{})
		if c.fails == "" {
			if err != nil || vols["v"].Path != path {
				t.Errorf("%s as %q: %v", c.path, c.kind, err)
			}
			continue
		}
		want := c.fails
		if strings.HasPrefix(want, "is not") {
			want = "hostPath type check failed: " + path + " " + want
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s as %q: %v, want %q", c.path, c.kind, err, want)
		}
	}
	if st, err := os.Stat(at("new-file")); err != nil || st.Mode() != 0o644 {
		t.Errorf("the new file: %v, %v", st, err)
	}
}

func block(text string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(text)}))
}

func TestTrustBundles(t *testing.T) {
	yes := true
	headed := strings.Replace(block("a"), "-----\n", "-----\nKey: value\n\n", 1)
	look := objects{
		"bundle//alone": {"pem": "text before\n" + block("b") + headed + block("b")},
		"bundle//s:1":   {"signer": "x.io/s", "use": "web", "pem": block("d") + block("c")},
		"bundle//s:2":   {"signer": "x.io/s", "use": "web", "pem": block("c") + block("a")},
		"bundle//s:3":   {"signer": "x.io/s", "use": "mail", "pem": block("m")},
		"bundle//key":   {"pem": strings.ReplaceAll(block("k"), "CERTIFICATE", "PRIVATE KEY")},
	}
	web := &metav1.LabelSelector{MatchLabels: map[string]string{"use": "web"}}
	for _, c := range []struct {
		name  string
		p     corev1.ClusterTrustBundleProjection
		want  string
		fails string
	}{
		{"by name", corev1.ClusterTrustBundleProjection{Name: new("alone")}, block("a") + block("b"), ""},
		{"missing", corev1.ClusterTrustBundleProjection{Name: new("no")}, "", "not found"},
		{"missing, optional", corev1.ClusterTrustBundleProjection{Name: new("no"), Optional: &yes}, "", ""},
		{"by signer and label", corev1.ClusterTrustBundleProjection{SignerName: new("x.io/s"), LabelSelector: web}, block("a") + block("c") + block("d"), ""},
		{"by signer, all", corev1.ClusterTrustBundleProjection{SignerName: new("x.io/s"), LabelSelector: &metav1.LabelSelector{}},
			block("a") + block("c") + block("d") + block("m"), ""},
		{"by signer, no selector", corev1.ClusterTrustBundleProjection{SignerName: new("x.io/s")}, "", "matched zero ClusterTrustBundles"},
		{"by signer, none, optional", corev1.ClusterTrustBundleProjection{SignerName: new("x.io/s"), Optional: &yes}, "", ""},
		{"nobody's", corev1.ClusterTrustBundleProjection{SignerName: new("y.io/s"), LabelSelector: web}, "", "matched zero ClusterTrustBundles"},
		{"a key", corev1.ClusterTrustBundleProjection{Name: new("key")}, "", "holds a private key"},
		{"a path that leaves", corev1.ClusterTrustBundleProjection{Name: new("alone"), Path: "../x"}, "", "does not stay"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.p.Path == "" {
				c.p.Path = "ca/bundle.pem"
			}
			m := manager(t, look)
			vols, err := m.Setup(t.Context(), podWith(volume("v", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &c.p}}}})), resolve.Facts{})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("%v, want %q", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := content(t, vols["v"].Path+"/ca/bundle.pem"); got != c.want {
				t.Errorf("holds %q, want %q", got, c.want)
			}
		})
	}
}

// certs gives out the same certificate to whoever asks.
type certs struct{ forgotten types.UID }

func (*certs) Certificate(context.Context, *corev1.Pod, *corev1.PodCertificateProjection) (key, chain []byte, renew time.Time, err error) {
	return []byte("key\n"), []byte("chain\n"), time.Now().Add(time.Hour), nil
}
func (c *certs) Forget(uid types.UID) { c.forgotten = uid }

func TestPodCertificate(t *testing.T) {
	give := &certs{}
	m := manager(t, objects{})
	user, gid := int64(1234), int64(2000)
	pod := podWith(volume("v", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{PodCertificate: &corev1.PodCertificateProjection{CredentialBundlePath: "all.pem"}},
		{PodCertificate: &corev1.PodCertificateProjection{KeyPath: "apart/key", CertificateChainPath: "apart/chain"}}}}}))
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, FSGroup: &gid}
	pod.Spec.Containers = []corev1.Container{{Name: "a"}}
	if _, err := m.Setup(t.Context(), pod, resolve.Facts{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("nobody gives certificates: %v", err)
	}
	m.cert = give
	vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/all.pem": "key\nchain\n", "/apart/key": "key\n", "/apart/chain": "chain\n"} {
		st, err := os.Stat(vols["v"].Path + path)
		if err != nil {
			t.Fatal(err)
		}
		owner := st.Sys().(*syscall.Stat_t)
		if got := content(t, vols["v"].Path+path); got != want || st.Mode() != 0o640 || owner.Uid != 1234 || owner.Gid != 2000 {
			t.Errorf("%s: %q, %v of %d:%d", path, got, st.Mode(), owner.Uid, owner.Gid)
		}
	}
	if err := m.Teardown(t.Context(), pod.UID); err != nil || give.forgotten != pod.UID {
		t.Errorf("%v, forgotten %s", err, give.forgotten)
	}
}

// TestGroupOfContent: with fsGroup the group may read files and enter folders, whatever their modes.
func TestGroupOfContent(t *testing.T) {
	look := objects{"secret/shop/keys": {"a": "1", "b": "2"}}
	gid := int64(2000)
	pod := podWith(volume("v", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys", DefaultMode: new(int32(0o400)),
		Items: []corev1.KeyToPath{{Key: "a", Path: "deep/a"}, {Key: "b", Path: "b", Mode: new(int32(0o004))}}}}))
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &gid}
	m := manager(t, look)
	vols, err := m.Setup(t.Context(), pod, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{"/deep/a": 0o440, "/b": 0o444, "/deep": fs.ModeDir | fs.ModeSetgid | 0o755} {
		st, err := os.Stat(vols["v"].Path + path)
		if err != nil || st.Mode() != want || st.Sys().(*syscall.Stat_t).Gid != 2000 {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
}
