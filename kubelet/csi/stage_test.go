package csi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/plugins"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// world is an API server and the driver's program, which all tests share.
type world struct {
	program string
	kube    kubernetes.Interface
	factory informers.SharedInformerFactory
}

func newWorld(t *testing.T) *world {
	program := filepath.Join(t.TempDir(), "testcsi")
	if text, err := exec.Command("go", "build", "-o", program, "../../hack/testcsi").CombinedOutput(); err != nil {
		t.Fatalf("building testcsi: %v\n%s", err, text)
	}
	kube := testcluster.Start(t).Kube
	w := &world{program: program, kube: kube, factory: client.Informers(kube)}
	w.factory.Core().V1().Nodes().Informer()
	w.factory.Storage().V1().CSIDrivers().Informer()
	ctx, cancel := context.WithCancel(context.Background())
	w.factory.StartWithContext(ctx)
	t.Cleanup(func() { cancel(); w.factory.Shutdown() })
	return w
}

// stage is a node with a driver.
type stage struct {
	*testing.T
	*world
	node, root, data, driver string
	process                  *exec.Cmd
	sock                     string
	events                   *events
	d                        *Drivers
	stop                     func()
}

type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) Eventf(o runtime.Object, kind, reason, format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf("%T %s %s %s", o, kind, reason, fmt.Sprintf(format, args...)))
}

func (e *events) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.all, func(s string) bool { return strings.Contains(s, text) })
}

// tokens gives tokens that end in the year 2100.
type tokens struct{}

func (tokens) Token(_ context.Context, p *corev1.Pod, w *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	return "h.eyJleHAiOjQxMDI0NDQ4MDB9." + p.Name + "-" + w.Audience, time.Now().Add(time.Hour), nil
}

// begin makes a node with a driver, and its room.
func (w *world) begin(t *testing.T, spec storagev1.CSIDriverSpec, args ...string) *stage {
	name := fmt.Sprintf("n%x", sha256.Sum256([]byte(t.Name())))[:12]
	s := &stage{T: t, world: w, node: name, driver: name + ".csi.example.com", root: t.TempDir(), data: t.TempDir()}
	short, err := os.MkdirTemp("/run", "c") // short: a socket's path has at most 108 characters
	if err != nil {
		t.Fatal(err)
	}
	s.sock = filepath.Join(short, "csi.sock")
	if _, err := w.kube.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: s.node}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if spec.AttachRequired == nil {
		spec.AttachRequired = new(false)
	}
	if _, err := w.kube.StorageV1().CSIDrivers().Create(t.Context(), &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: s.driver}, Spec: spec}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.until("the informers have them", func() (bool, string) {
		_, node, err := w.factory.Core().V1().Nodes().Informer().GetStore().GetByKey(s.node)
		_, object, _ := w.factory.Storage().V1().CSIDrivers().Informer().GetStore().GetByKey(s.driver)
		return node && object, fmt.Sprint(err)
	})
	t.Cleanup(s.unmount)
	s.startDriver(args...)
	t.Cleanup(func() { s.stopDriver() })
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *stage) startDriver(args ...string) {
	s.Helper()
	s.process = exec.Command(s.program, append([]string{"--name=" + s.driver, "--node=as-" + s.node, "--endpoint=" + s.sock, "--data=" + s.data}, args...)...)
	s.process.Stdout, s.process.Stderr = os.Stderr, os.Stderr
	if err := s.process.Start(); err != nil {
		s.Fatal(err)
	}
	s.until("the driver listens", func() (bool, string) {
		c, err := net.Dial("unix", s.sock)
		if err == nil {
			err = c.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
}

// unmount takes away what a test has left mounted: the folders could not be removed.
func (s *stage) unmount() {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.root))
	if err != nil {
		s.Error(err)
	}
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			s.Error(err)
		}
	}
}

func (s *stage) stopDriver() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait() // it was killed: an error is what is expected
	s.process = nil
}

// start is a life of the kubelet: nothing is remembered of the one before.
func (s *stage) start() {
	s.Helper()
	s.events = &events{}
	s.d = New(s.node, s.root, Parts{Kube: s.kube, Nodes: s.factory.Core().V1().Nodes().Informer(), Objects: s.factory.Storage().V1().CSIDrivers().Informer(),
		Tokens: tokens{}, Events: s.events}, logging.ForTest(s.T))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	nudged := make(chan struct{}, 1)
	go func(d *Drivers) { done <- d.Run(ctx, func() { poke(nudged) }) }(s.d)
	told := make(chan struct{})
	go func(d *Drivers) { // the node's status, as the room node writes it
		defer close(told)
		for {
			select {
			case <-ctx.Done():
				return
			case <-nudged:
			}
			for ctx.Err() == nil {
				n, err := s.kube.CoreV1().Nodes().Get(ctx, s.node, metav1.GetOptions{})
				if err == nil {
					d.Contribute(n)
					_, err = s.kube.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{})
				}
				if err == nil {
					break
				}
			}
		}
	}(s.d)
	s.stop = func() {
		cancel()
		<-told
		if err := <-done; err != nil {
			s.Error(err)
		}
		s.stop = func() {}
	}
	s.register()
}

func (s *stage) register() {
	s.Helper()
	if err := s.d.Register(s.Context(), plugins.Plugin{Type: registration.CSIPlugin, Name: s.driver, Endpoint: s.sock, Versions: []string{"1.0.0"}}); err != nil {
		s.Fatal(err)
	}
}

// again is the next life of the kubelet.
func (s *stage) again() {
	s.Helper()
	s.stop()
	s.start()
}

func (s *stage) until(what string, ok func() (bool, string)) {
	s.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		yes, seen := ok()
		if yes {
			return
		}
		if time.Now().After(end) {
			s.Fatalf("not so: %s: %s", what, seen)
		}
	}
}

// fault has a call of the driver fail; empty: not any more.
func (s *stage) fault(call, how string) {
	s.Helper()
	file := filepath.Join(s.data, "faults", call)
	err := os.WriteFile(file+".new", []byte(how), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if how == "" {
		err = os.Remove(file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Fatal(err)
	}
}

// calls are the names of what the driver was asked to change, in order.
func (s *stage) calls() (names []string) {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.data, "calls"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(name, "Node"), "Volume"))
	}
	return names
}

// asked is the last request of a call.
func (s *stage) asked(call string) map[string]any {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.data, "calls"))
	if err != nil {
		s.Fatal(err)
	}
	var last map[string]any
	for line := range strings.Lines(string(text)) {
		if name, req, _ := strings.Cut(line, " "); name == call {
			last = nil
			if err := json.Unmarshal([]byte(req), &last); err != nil {
				s.Fatal(err)
			}
		}
	}
	return last
}

func (s *stage) pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)}, Spec: corev1.PodSpec{NodeName: s.node, ServiceAccountName: "sa"}}
}

// volume is that of a claim, which need not be in the API.
func (s *stage) volume(p *corev1.Pod, change ...func(*corev1.PersistentVolume)) Volume {
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + s.node, UID: "pv"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: s.driver, VolumeHandle: "disk", FSType: "ext4", VolumeAttributes: map[string]string{"a": "b"}}}}}
	for _, c := range change {
		c(pv)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data", UID: "claim"}, Status: corev1.PersistentVolumeClaimStatus{Capacity: size}}
	return OfClaim(p, "v", claim, pv, false)
}

// publish makes a volume ready, in which a pod then writes.
func (s *stage) publish(v Volume) string {
	s.Helper()
	path, err := s.d.Publish(s.Context(), v, nil)
	if err != nil {
		s.Fatal(err)
	}
	return path
}

// clean wants nothing to be left of volumes: no mounts, no records, no folders of ours.
func (s *stage) clean() {
	s.Helper()
	s.until("nothing is left", func() (bool, string) {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.root))
		if err != nil || len(mounts) > 0 {
			return false, fmt.Sprint(len(mounts), " mounts, ", err)
		}
		var left []string
		err = filepath.WalkDir(s.root, func(path string, e fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(s.root, path)
			if err == nil && (!e.IsDir() || strings.HasPrefix(rel, "plugins/kubernetes.io/csi/"+s.driver+"/") || strings.Contains(rel, Folder+"/")) {
				left = append(left, rel)
			}
			return nil
		})
		return len(left) == 0 && err == nil, fmt.Sprint(left, err)
	})
}
