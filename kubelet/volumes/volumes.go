// Package volumes makes a pod's volumes on the node, keeps their content fresh, and takes them away.
//
// The pod workers call Setup before a pod's containers and Teardown when they are gone; Run renews volumes whose objects changed. A volume is a
// folder below ROOT/pods/UID/volumes/KIND/NAME, so what a crashed kubelet left behind is found by looking (Pods). What always holds:
// Setup may be called again at any time and disturbs no running container; Teardown unmounts before it deletes and never deletes through a mount;
// the content of ConfigMap, Secret, projected and downward API volumes changes as a whole or not at all.
//
// It leaves to others: which container sees which volume (pods), objects (objects), values (resolve).
package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/resolve"
)

// ErrUnsupported: no line of the table takes the volume.
var ErrUnsupported = errors.New("kind of volume is not supported by this kubelet")

// Volume is a volume that is ready to be mounted into containers.
type Volume struct {
	// Path on the node.
	Path string
	// Device on the node, instead of a Path: the volume is given to containers as a block device.
	Device string
	// ReadOnly volumes are never written by containers, whatever the mount says.
	ReadOnly bool
	// ImageRef is name@digest of the image that the volume shows; empty if it is of another kind.
	ImageRef string
	// Renew is when the content will be too old, whatever objects do; the zero time is never.
	Renew time.Time

	subs string // folder for what Sub binds
}

// Tokens gets the tokens of pods' service accounts.
type Tokens interface {
	// Token returns a valid one, and when the next is to be asked for.
	Token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (token string, renew time.Time, err error)
	// Forget drops what is kept of a pod that is gone.
	Forget(uid types.UID)
}

// Certificates gets the certificates of pods.
type Certificates interface {
	// Certificate returns a key and its chain, in PEM, and when the next is to be asked for.
	Certificate(ctx context.Context, pod *corev1.Pod, p *corev1.PodCertificateProjection) (key, chain []byte, renew time.Time, err error)
	// Forget drops what is kept of a pod that is gone.
	Forget(uid types.UID)
}

// Lookup finds the objects that a pod's volumes show. A missing one is an API «not found» error.
type Lookup interface {
	resolve.Lookup
	TrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error)
	// TrustBundles are all of a signer, by name.
	TrustBundles(signer string) ([]*certificatesv1.ClusterTrustBundle, error)
}

// Images makes the files of images seen.
type Images interface {
	// Mount mounts the image of the volume at dir and says which one it is, as name@digest; what is mounted there already stays.
	Mount(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, dir string) (ref string, err error)
	// Release gives back what a pod's volumes took; they are unmounted.
	Release(ctx context.Context, uid types.UID) error
}

// Parts are the rooms that volumes need. Storage, Images and Drivers may be nil: their kinds of volumes are then not supported.
type Parts struct {
	Look    Lookup
	Tokens  Tokens
	Storage Storage
	Images  Images
	Drivers Drivers
	// Certificates may be nil: volumes that show one are then not supported.
	Certificates Certificates
}

// Ground is what a volume is made of: the pod, its volume, and where.
type Ground struct {
	Pod    *corev1.Pod
	Volume *corev1.Volume
	// Dir is the volume's own folder; it need not exist yet.
	Dir          string
	Facts        resolve.Facts
	Look         Lookup
	Tokens       Tokens
	Storage      Storage
	Images       Images
	Drivers      Drivers
	Certificates Certificates

	root     string      // the kubelet's folder
	using    *sync.Mutex // held while a pod becomes the user of a PersistentVolume
	released func()      // a pod is no user any more
}

// kind is a line of the table.
type kind struct {
	name string // of the folder
	// takes says whether the volume is of this kind.
	takes func(*corev1.VolumeSource) bool
	// setup makes the volume, or makes sure that it is there.
	setup func(context.Context, Ground) (Volume, error)
	// fresh says that setup is to be called again when an object that the pod refers to changed.
	fresh bool
}

// Manager keeps the volumes of this node.
type Manager struct {
	root    string // set once, as all in this group
	look    Lookup
	cert    Certificates
	toks    Tokens
	stor    Storage
	pics    Images
	drivers Drivers
	log     *zap.Logger
	wake    chan struct{}

	released chan struct{}
	using    sync.Mutex // taken before mu is, if ever both

	mu    sync.Mutex
	pods  map[types.UID]*podVolumes // pods that are set up; guarded by mu
	busy  map[types.UID]bool        // pods that are being renewed; guarded by mu
	dirty map[types.UID]bool        // pods to renew; guarded by mu
	due   map[types.UID]time.Time   // when pods are to be renewed in any case; guarded by mu
}

// podVolumes are the volumes of one pod.
type podVolumes struct {
	// work: setup, renewal and teardown of one pod follow one another. Taken before Manager.mu is taken, never while it is held.
	work sync.Mutex

	pod   *corev1.Pod // guarded by Manager.mu, as the next two
	facts resolve.Facts
	paths map[string]string // where the volumes are, by their names; never changed once set
	fault string            // why the last renewal failed; owned by who renews
}

// New stores what it is given. root is the kubelet's folder.
func New(root string, p Parts, log *zap.Logger) *Manager {
	return &Manager{
		root: root, look: p.Look, toks: p.Tokens, cert: p.Certificates, stor: p.Storage, pics: p.Images, drivers: p.Drivers, log: log.Named("volumes"), wake: make(chan struct{}, 1), released: make(chan struct{}, 1),
		pods: map[types.UID]*podVolumes{}, busy: map[types.UID]bool{}, dirty: map[types.UID]bool{}, due: map[types.UID]time.Time{},
	}
}

// PodDir is the folder of one pod.
func PodDir(root string, uid types.UID) string { return filepath.Join(root, "pods", string(uid)) }

// EmptyDir is the folder of a pod's emptyDir volume.
func EmptyDir(root string, uid types.UID, volume string) string {
	return filepath.Join(PodDir(root, uid), "volumes", emptyDirKind, volume)
}

func (m *Manager) volumesDir(uid types.UID) string {
	return filepath.Join(PodDir(m.root, uid), "volumes")
}

// Setup makes the pod's volumes, side by side, and says where each one is. Called again (with newer facts) it brings them up to date.
func (m *Manager) Setup(ctx context.Context, pod *corev1.Pod, facts resolve.Facts) (map[string]Volume, error) {
	m.mu.Lock()
	pv := m.pods[pod.UID]
	if pv == nil {
		pv = &podVolumes{}
		m.pods[pod.UID] = pv
	}
	pv.pod, pv.facts = pod, facts
	m.mu.Unlock()

	pv.work.Lock()
	defer pv.work.Unlock()
	made, err := m.setup(ctx, pod, facts, false)
	if err == nil {
		m.note(pv, made)
	}
	return made, err
}

// setup walks over the pod's volumes; freshOnly leaves out those whose content does not follow objects.
func (m *Manager) setup(ctx context.Context, pod *corev1.Pod, facts resolve.Facts, freshOnly bool) (map[string]Volume, error) {
	var (
		mu   sync.Mutex
		errs []error
		all  sync.WaitGroup
	)
	made, renew := map[string]Volume{}, time.Time{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		k := kindOf(v)
		if k != nil && freshOnly && !k.fresh {
			continue
		}
		all.Go(func() {
			vol, err := m.one(ctx, k, pod, v, facts)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if !strings.HasPrefix(err.Error(), "MountVolume.") { // those that have their own known words keep them
					err = setupFailed(v.Name, err)
				}
				errs = append(errs, err)
				return
			}
			made[v.Name] = vol
			renew = sooner(renew, vol.Renew)
		})
	}
	all.Wait()
	if len(errs) > 0 {
		m.renewBy(pod.UID, time.Now().Add(retry))
		return nil, errors.Join(errs...)
	}
	m.renewBy(pod.UID, renew)
	return made, nil
}

// retry is when a renewal that failed is tried again, unless something wakes it before.
const retry = 30 * time.Second

// renewBy notes when a pod is to be renewed in any case; the zero time is never.
func (m *Manager) renewBy(uid types.UID, when time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if when.IsZero() || m.pods[uid] == nil {
		delete(m.due, uid)
		return
	}
	m.due[uid] = when
	m.wakeUp()
}

func (m *Manager) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Manager) one(ctx context.Context, k *kind, pod *corev1.Pod, v *corev1.Volume, facts resolve.Facts) (Volume, error) {
	if k == nil {
		return Volume{}, ErrUnsupported
	}
	dir := filepath.Join(m.volumesDir(pod.UID), k.name, v.Name)
	made, err := k.setup(ctx, Ground{Pod: pod, Volume: v, Dir: dir, Facts: facts, Look: m.look, Tokens: m.toks, Certificates: m.cert, Storage: m.stor, Images: m.pics, Drivers: m.drivers,
		root: m.root, using: &m.using, released: m.release})
	made.subs = filepath.Join(m.volumesDir(pod.UID), subPaths, v.Name)
	return made, err
}

func kindOf(v *corev1.Volume) *kind {
	for i := range table {
		if table[i].takes(&v.VolumeSource) {
			return &table[i]
		}
	}
	return nil
}

// Teardown unmounts and removes the pod's volumes. Tearing down what is gone is no error.
func (m *Manager) Teardown(ctx context.Context, uid types.UID) error {
	m.mu.Lock()
	pv := m.pods[uid]
	delete(m.pods, uid)
	delete(m.dirty, uid)
	delete(m.due, uid)
	m.mu.Unlock()
	if pv != nil {
		pv.work.Lock() // a renewal under way ends first
		defer pv.work.Unlock()
	}
	if err := m.leave(ctx, uid); err != nil {
		return err
	}
	m.toks.Forget(uid) // nobody asks for it any more
	if m.cert != nil {
		m.cert.Forget(uid)
	}
	dir := m.volumesDir(uid)
	if err := unmountBelow(dir); err != nil {
		return fmt.Errorf("unmounting volumes: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, imageKind)); err == nil && m.pics != nil {
		if err := m.pics.Release(ctx, uid); err != nil {
			return err
		}
	}
	if err := Remove(ctx, dir); err != nil {
		return fmt.Errorf("removing volumes: %w", err)
	}
	m.release()
	return nil
}

// Pods are the pods that have a folder, set up in this life or in a former one.
func (m *Manager) Pods() ([]types.UID, error) {
	entries, err := os.ReadDir(filepath.Join(m.root, "pods"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing pod folders: %w", err)
	}
	var uids []types.UID
	for _, e := range entries {
		if e.IsDir() {
			uids = append(uids, types.UID(e.Name()))
		}
	}
	return uids, nil
}

// Renew asks for the content of the pods' volumes to be brought up to date soon. A pod that is not set up is ignored. newer, if not nil,
// is the pod as it is now (its labels and annotations may show in volumes).
func (m *Manager) Renew(uid types.UID, newer *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pv := m.pods[uid]
	if pv == nil {
		return
	}
	if newer != nil {
		pv.pod = newer
	}
	m.dirty[uid] = true
	m.wakeUp()
}

// Run renews volumes until ctx ends: pods beside each other, since one may wait for the API.
func (m *Manager) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	clock := time.NewTimer(0)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-clock.C:
		}
		for _, uid := range m.toRenew(time.Now()) {
			all.Go(func() {
				m.renew(ctx, uid)
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.busy, uid)
				m.wakeUp()
			})
		}
		if first := m.next(); !first.IsZero() {
			clock.Reset(time.Until(first))
		}
	}
}

// toRenew takes the pods that are to be renewed now; those that are being renewed stay for later.
func (m *Manager) toRenew(now time.Time) []types.UID {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid, when := range m.due {
		if !when.After(now) {
			m.dirty[uid] = true
			delete(m.due, uid)
		}
	}
	var todo []types.UID
	for uid := range m.dirty {
		if !m.busy[uid] {
			m.busy[uid] = true
			delete(m.dirty, uid)
			todo = append(todo, uid)
		}
	}
	return todo
}

// next is when a pod is to be renewed in any case; the zero time is never.
func (m *Manager) next() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first time.Time
	for _, when := range m.due {
		first = sooner(first, when)
	}
	return first
}

// renew brings a pod's content up to date. What fails is said once, and tried again.
func (m *Manager) renew(ctx context.Context, uid types.UID) {
	m.mu.Lock()
	pv := m.pods[uid]
	m.mu.Unlock()
	if pv == nil {
		return
	}
	pv.work.Lock()
	defer pv.work.Unlock()
	m.mu.Lock()
	gone, pod, facts := m.pods[uid] != pv, pv.pod, pv.facts
	m.mu.Unlock()
	if gone {
		return
	}
	fault := ""
	if _, err := m.setup(ctx, pod, facts, true); err != nil {
		fault = err.Error()
	}
	if fault != "" && fault != pv.fault && ctx.Err() == nil {
		m.log.Warn("renewing volumes", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("error", fault))
	}
	pv.fault = fault
}
