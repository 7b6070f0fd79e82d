package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"pilothouse.dev/pkg/localvolume"
)

// Storage is where claims lead to.
type Storage interface {
	// Claim and Volume read from the API; what does not exist is an API «not found» error.
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	// Node is this node, nil while it is not known.
	Node() *corev1.Node
	// Make makes the folder of a volume that the cluster's own provisioner made, if it is not there.
	Make(v *corev1.PersistentVolume) error
}

// claimKind is the folder of volumes that come by a claim. In each volume's own is
//
//	volume   the name of the PersistentVolume, from before it is looked at: nobody removes it from under us then
//	ready    once it was set up: what runs again after this disturbs nothing
//	mount    where it is mounted, if it has mount options or is NFS
//	device   the file that it is given a loop device of
const (
	claimKind = "persistent-claim"
	usedFile  = "volume"
	readyFile = "ready"
	mountDir  = "mount"
)

func isClaim(s *corev1.VolumeSource) bool {
	return s.PersistentVolumeClaim != nil || s.Ephemeral != nil
}

// setupClaim finds the volume that a claim is bound to, and makes sure that this pod may use it here. A claim that is not bound yet is
// an error, which is tried again.
func setupClaim(ctx context.Context, g Ground) (_ Volume, err error) {
	claim, err := g.claim(ctx)
	if err != nil {
		return Volume{}, err
	}
	_, err = os.Lstat(filepath.Join(g.Dir, readyFile))
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := usable(claim, fresh); err != nil {
		return Volume{}, err
	}
	if err := g.use(claim, fresh); err != nil {
		return Volume{}, err
	}
	defer func() {
		if err != nil && fresh {
			err = g.undo(ctx, claim.Spec.VolumeName, err)
		}
	}()
	v, err := g.Storage.Volume(ctx, claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		return Volume{}, fmt.Errorf("persistentvolume %q not found", claim.Spec.VolumeName)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("reading persistentvolume %q: %w", claim.Spec.VolumeName, err)
	}
	if err := fits(v, claim, g.Storage.Node(), fresh); err != nil {
		return Volume{}, err
	}
	made, err := g.source(ctx, claim, v, fresh)
	if err != nil {
		return Volume{}, fmt.Errorf("persistentvolume %q: %w", v.Name, err)
	}
	if err := os.WriteFile(filepath.Join(g.Dir, readyFile), nil, 0o600); err != nil {
		return Volume{}, fmt.Errorf("noting that a volume is ready: %w", err)
	}
	return made, nil
}

// claim reads the pod's claim. One that was made for a pod must be this one's
// (https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#persistentvolumeclaim-naming).
func (g Ground) claim(ctx context.Context) (*corev1.PersistentVolumeClaim, error) {
	name := g.Pod.Name + "-" + g.Volume.Name
	if g.Volume.PersistentVolumeClaim != nil {
		name = g.Volume.PersistentVolumeClaim.ClaimName
	}
	c, err := g.Storage.Claim(ctx, g.Pod.Namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("persistentvolumeclaim %q not found", name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading persistentvolumeclaim %q: %w", name, err)
	}
	if g.Volume.Ephemeral != nil && !metav1.IsControlledBy(c, g.Pod) {
		return nil, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", c.Namespace, c.Name, g.Pod.Namespace, g.Pod.Name)
	}
	return c, nil
}

// usable says why a claim gives nothing to a pod yet, or not any more.
func usable(c *corev1.PersistentVolumeClaim, fresh bool) error {
	switch {
	case fresh && c.DeletionTimestamp != nil:
		return fmt.Errorf("persistentvolumeclaim %q is being deleted", c.Name)
	case c.Status.Phase != corev1.ClaimBound || c.Spec.VolumeName == "":
		return fmt.Errorf("persistentvolumeclaim %q is not bound", c.Name)
	}
	return nil
}

var errNoNode = errors.New("this node has not been read yet")

// fits says why a volume is not the claim's, or not this node's.
func fits(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim, n *corev1.Node, fresh bool) error {
	if ref := v.Spec.ClaimRef; ref == nil || ref.UID != c.UID || ref.Namespace != c.Namespace || ref.Name != c.Name {
		return fmt.Errorf("persistentvolume %q is not bound to persistentvolumeclaim %q", v.Name, c.Name)
	}
	// Its content may be half gone. A folder of ours may be removed from when nothing protects it any more, which nobody takes back; a
	// phase could be.
	if v.DeletionTimestamp != nil && (v.Status.Phase != corev1.VolumeBound || fresh && localvolume.Ours(v) && !slices.Contains(v.Finalizers, localvolume.Protection)) {
		return fmt.Errorf("persistentvolume %q is being deleted", v.Name)
	}
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return nil
	}
	if n == nil {
		return errNoNode
	}
	want, err := nodeaffinity.NewNodeSelector(v.Spec.NodeAffinity.Required)
	if err != nil {
		return fmt.Errorf("reading the node affinity of persistentvolume %q: %w", v.Name, err)
	}
	if !want.Match(n) {
		return fmt.Errorf("MountVolume.NodeAffinity check failed for volume %q : no matching NodeSelectorTerms", v.Name)
	}
	return nil
}

// source makes what the volume says of itself.
func (g Ground) source(ctx context.Context, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume, fresh bool) (Volume, error) {
	block := isBlock(v.Spec.VolumeMode)
	switch {
	case v.Spec.CSI != nil:
		return g.driver(ctx, c, v)
	case v.Spec.Local != nil && block:
		return g.localDevice(v.Spec.Local.Path)
	case block:
		return Volume{}, fmt.Errorf("%s: volume mode %s: %w", sourceName(v), corev1.PersistentVolumeBlock, ErrUnsupported)
	case v.Spec.NFS != nil:
		return mountNFS(ctx, v.Spec.NFS, filepath.Join(g.Dir, mountDir), v.Spec.NFS.ReadOnly || g.readOnly(), v.Spec.MountOptions)
	}
	var made Volume
	switch {
	case v.Spec.Local != nil:
		if err := g.local(v); err != nil {
			return Volume{}, err
		}
		made.Path = v.Spec.Local.Path
	case v.Spec.HostPath != nil:
		asHost := g
		asHost.Volume = &corev1.Volume{Name: g.Volume.Name, VolumeSource: corev1.VolumeSource{HostPath: v.Spec.HostPath}}
		var err error
		if made, err = setupHostPath(ctx, asHost); err != nil {
			return Volume{}, err
		}
	default:
		return Volume{}, fmt.Errorf("%s: %w", sourceName(v), ErrUnsupported)
	}
	made.ReadOnly = g.readOnly()
	if v.Spec.Local != nil && fresh && !made.ReadOnly {
		if err := g.own(made.Path); err != nil {
			return Volume{}, err
		}
	}
	if len(v.Spec.MountOptions) == 0 {
		return made, nil
	}
	to := filepath.Join(g.Dir, mountDir)
	if err := mountWith(made.Path, to, v.Spec.MountOptions); err != nil {
		return Volume{}, err
	}
	made.Path = to
	return made, nil
}

// readOnly says whether the pod asks for its claim to be read only.
func (g Ground) readOnly() bool {
	return g.Volume.PersistentVolumeClaim != nil && g.Volume.PersistentVolumeClaim.ReadOnly
}

// local wants the folder to be there; the cluster's own provisioner has it made, on the node that the label names: another, which the
// node affinity may fit as well, has not its content.
func (g Ground) local(v *corev1.PersistentVolume) error {
	if on := v.Labels[localvolume.NodeLabel]; on != "" && localvolume.Ours(v) {
		n := g.Storage.Node()
		if n == nil {
			return errNoNode
		}
		if n.Name != on {
			return fmt.Errorf("its folder is on node %q", on)
		}
		if err := g.Storage.Make(v); err != nil {
			return err
		}
	}
	st, err := os.Stat(v.Spec.Local.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("path %q does not exist", v.Spec.Local.Path)
	}
	if err != nil {
		return fmt.Errorf("local path: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("local path %s is not a directory (its mode is %s)", v.Spec.Local.Path, st.Mode())
	}
	return nil
}

// sourceName is what kind of storage a volume is, by the name of its field.
func sourceName(v *corev1.PersistentVolume) string {
	s := reflect.ValueOf(v.Spec.PersistentVolumeSource)
	for i := range s.NumField() {
		if !s.Field(i).IsNil() {
			return s.Type().Field(i).Name
		}
	}
	return "no source"
}

// use notes that the pod uses the claim's volume. One for a single pod is used by no other; and a pod that has been given one uses that
// until it ends, though its claim may have been replaced by force: its containers may be running on it.
func (g Ground) use(c *corev1.PersistentVolumeClaim, fresh bool) error {
	g.using.Lock()
	defer g.using.Unlock()
	if slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) {
		users, err := usersOf(g.root, c.Spec.VolumeName)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(users, func(uid types.UID) bool { return uid != g.Pod.UID }) {
			return fmt.Errorf("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
		}
	}
	if err := os.MkdirAll(g.Dir, 0o750); err != nil {
		return fmt.Errorf("making the folder of a claim: %w", err)
	}
	file := filepath.Join(g.Dir, usedFile)
	have, err := os.ReadFile(file)
	switch {
	case err == nil && string(have) == c.Spec.VolumeName:
		return nil
	case err == nil && !fresh && len(have) > 0:
		return fmt.Errorf("persistentvolumeclaim %q is bound to volume %q, but this pod was given %q", c.Name, c.Spec.VolumeName, have)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading the volume of a claim: %w", err)
	}
	if err := os.WriteFile(file, []byte(c.Spec.VolumeName), 0o600); err != nil {
		return fmt.Errorf("noting the volume of a claim: %w", err)
	}
	return nil
}

// undo takes back what use noted, after an error, unless a driver may have done something for the pod: then it is its user until it ends.
func (g Ground) undo(ctx context.Context, volume string, why error) error {
	if g.Drivers != nil {
		held, err := g.Drivers.Holds(g.Pod.UID, volume)
		if held || err != nil {
			return errors.Join(why, err)
		}
	}
	return errors.Join(why, g.unuse(context.WithoutCancel(ctx)))
}

// unuse takes back what use noted.
func (g Ground) unuse(ctx context.Context) error {
	if err := freeDevice(g.root, g.using, g.Dir); err != nil {
		return err
	}
	if err := unmountBelow(g.Dir); err != nil {
		return fmt.Errorf("unmounting a volume: %w", err)
	}
	if err := Remove(ctx, g.Dir); err != nil {
		return fmt.Errorf("forgetting the volume of a claim: %w", err)
	}
	g.released()
	return nil
}

// usersOf are the pods below the kubelet's folder that use a PersistentVolume. A folder that cannot be read is an error: a user that is
// overlooked would lose its data.
func usersOf(root, volume string) ([]types.UID, error) {
	pods, err := foldersIn(filepath.Join(root, "pods"))
	if err != nil {
		return nil, err
	}
	var users []types.UID
	for _, uid := range pods {
		claims := filepath.Join(PodDir(root, types.UID(uid)), "volumes", claimKind)
		names, err := foldersIn(claims)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			used, err := os.ReadFile(filepath.Join(claims, name, usedFile))
			if errors.Is(err, fs.ErrNotExist) {
				continue // torn down meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("looking for users of a volume: %w", err)
			}
			if string(used) == volume {
				users = append(users, types.UID(uid))
			}
		}
	}
	return users, nil
}

// foldersIn names the folders in one; one that is not there has none.
func foldersIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for users of a volume: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Uses says whether a pod of this node has a PersistentVolume among its volumes, set up in this life or in a former one.
func (m *Manager) Uses(volume string) (bool, error) {
	users, err := usersOf(m.root, volume)
	return len(users) > 0, err
}

// Released has something to read when a pod's volumes were taken down, or one of a claim was given up. For one reader.
func (m *Manager) Released() <-chan struct{} { return m.released }

func (m *Manager) release() {
	select {
	case m.released <- struct{}{}:
	default:
	}
}
