package csi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// publication is one volume on its way to a pod.
type publication struct {
	*Drivers
	Volume
	use          user
	target       string
	rec          record
	object       *storagev1.CSIDriver // nil: the driver has none
	driver       driver
	client       spec.NodeClient
	can          capabilities
	wants        *spec.VolumeCapability
	attachmentID string // the name of the attachment; empty: it needs none
	// attachment is what the attacher said, for the driver.
	attachment map[string]string
	staging    string // where it is staged; empty: it is not
}

// Publish makes a volume ready for its pod and says where it is: a folder, or the device of a block volume. own, if not nil, gives a folder to
// the pod's group. Called again it disturbs nothing. Errors are Failures.
func (d *Drivers) Publish(ctx context.Context, v Volume, own func(dir string) error) (path string, err error) {
	done, err := d.turns.take(ctx, v.key())
	if err != nil {
		return "", err
	}
	defer done()
	p := &publication{Drivers: d, Volume: v, use: user{v.Pod.UID, v.Name}}
	p.target = d.disk.target(p.use, v.Block)
	have, err := read(d.disk.useDir(p.use))
	if err != nil {
		return "", err
	}
	if have != nil {
		p.rec, p.attachmentID = *have, have.Attachment
		if have.Driver != "" && have.key() != v.key() {
			return "", p.failed("MountVolume.SetUp", fmt.Errorf("pod has another volume of this name, %q of driver %s", have.Handle, have.Driver))
		}
		mounted, err := isMounted(p.target)
		if err != nil {
			return "", err
		}
		if p.rec.Stage == ready && mounted {
			d.remember(p.target, v) // made in a former life
			return p.target, nil
		}
	}
	return p.target, p.run(ctx, own)
}

// doing is the name of a thing that is done, which differs for block volumes.
func (v *Volume) doing(what string) string {
	if v.Block {
		return map[string]string{"MountVolume.MountDevice": "MapVolume.SetUpDevice", "MountVolume.SetUp": "MapVolume.MapPodDevice"}[what]
	}
	return what
}

func (p *publication) failed(what string, err error) error {
	var known *Failure
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &Failure{p.doing(what), p.Name, err}
}

func (p *publication) run(ctx context.Context, own func(string) error) error {
	var err error
	if p.object, err = p.Drivers.object(ctx, p.Driver); err != nil {
		return p.failed("MountVolume.SetUp", err)
	}
	if err := p.allowed(); err != nil {
		return p.failed("MountVolume.SetUp", err)
	}
	if err := p.attach(ctx); err != nil {
		return err
	}
	if p.driver, err = p.driverOf(p.Driver); err != nil {
		return p.failed("MountVolume.SetUp", fmt.Errorf("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: %w", err))
	}
	err = p.driver.call(ctx, func(ctx context.Context, c spec.NodeClient) error {
		p.client = c
		if p.can, err = can(ctx, c); err != nil {
			return p.failed("MountVolume.SetUp", err)
		}
		p.wants = p.capability(p.can)
		if err := p.stageOnce(ctx); err != nil {
			return p.failed("MountVolume.MountDevice", err)
		}
		err = p.publishTo(ctx)
		if p.staging != "" && status.Code(err) == codes.FailedPrecondition { // the driver knows nothing of its stage: the next try makes it again
			err = errors.Join(err, p.unstaged())
		}
		return p.failed("MountVolume.SetUp", err)
	})
	if err != nil {
		return err
	}
	if own != nil && p.owned() {
		if err := own(p.target); err != nil {
			return p.failed("MountVolume.SetUp", fmt.Errorf("applying the group: %w", err))
		}
	}
	if p.outgrown() {
		if err := p.grow(ctx, p.Volume, p.target); err != nil {
			return p.failed("MountVolume.NodeExpandVolume", err)
		}
	}
	if err := p.note(ready); err != nil {
		return err
	}
	p.remember(p.target, p.Volume)
	return nil
}

// allowed says why the driver does not take the volume this way
// (https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/csi-driver-v1/, volumeLifecycleModes).
func (p *publication) allowed() error {
	want := storagev1.VolumeLifecyclePersistent
	if p.inline() {
		want = storagev1.VolumeLifecycleEphemeral
	}
	if p.object == nil {
		if p.inline() {
			return fmt.Errorf("volume mode %q not supported by driver %s (no CSIDriver object)", want, p.Driver)
		}
		return nil
	}
	modes := p.object.Spec.VolumeLifecycleModes
	if len(modes) == 0 {
		modes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	if !slices.Contains(modes, want) {
		return fmt.Errorf("volume mode %q not supported by driver %s (only supports %q)", want, p.Driver, modes)
	}
	return nil
}

// note writes down how far the pod's use has come. It never goes back to where no driver was asked for anything: what one may have done is undone.
func (p *publication) note(s progress) error {
	if s == noted && p.rec.Driver != "" && p.rec.Stage != noted {
		s = publishing
	}
	lifecycle := storagev1.VolumeLifecyclePersistent
	if p.inline() {
		lifecycle = storagev1.VolumeLifecycleEphemeral
	}
	now := record{SpecVolID: p.Name, Handle: p.Handle, Driver: p.Driver, Node: p.node, Attachment: p.attachmentID, Lifecycle: string(lifecycle), Block: p.Block, Stage: s}
	was := p.rec
	if now == was {
		return nil
	}
	if err := write(p.disk.useDir(p.use), now); err != nil {
		return err
	}
	if p.rec = now; now.Attachment != was.Attachment {
		p.counts(now.Attachment)
	}
	return nil
}

// stageOnce has the driver stage the volume for the node, if it does that and has not done it for another pod.
func (p *publication) stageOnce(ctx context.Context) error {
	if p.inline() || !p.can[spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME] {
		return p.note(publishing)
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if err := p.note(publishing); err != nil {
		return err
	}
	p.staging = p.disk.stagePath(p.rec)
	dir := p.disk.stageDir(p.Driver, p.Handle)
	staged, err := p.disk.isStaged(p.Driver, p.Handle, boot)
	if err != nil || staged {
		return err
	}
	rec := p.rec
	rec.Stage = ""
	if err := write(dir, rec); err != nil {
		return err
	}
	if err := os.MkdirAll(p.staging, 0o750); err != nil {
		return fmt.Errorf("making the folder to stage at: %w", err)
	}
	secrets, err := p.secrets(ctx, "NodeStageSecretRef", p.stage)
	if err != nil {
		return err
	}
	_, err = p.client.NodeStageVolume(ctx, &spec.NodeStageVolumeRequest{VolumeId: p.Handle, PublishContext: p.attachment, StagingTargetPath: p.staging,
		VolumeCapability: p.wants, Secrets: secrets, VolumeContext: p.attributes})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, stagedFile), []byte(boot), 0o600); err != nil {
		return fmt.Errorf("noting that a volume is staged: %w", err)
	}
	return nil
}

// unstaged notes that a volume is not staged.
func (p *publication) unstaged() error {
	if err := os.Remove(filepath.Join(p.disk.stageDir(p.Driver, p.Handle), stagedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("noting that a volume is not staged: %w", err)
	}
	return nil
}

// publishTo has the driver publish the volume to the pod.
func (p *publication) publishTo(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(p.target), 0o750); err != nil {
		return fmt.Errorf("making the folder to publish in: %w", err)
	}
	secrets, err := p.secrets(ctx, "NodePublishSecretRef", p.publish)
	if err != nil {
		return err
	}
	said, secrets, err := p.context(ctx, p.object, &p.Volume, secrets)
	if err != nil {
		return err
	}
	_, err = p.client.NodePublishVolume(ctx, &spec.NodePublishVolumeRequest{VolumeId: p.Handle, PublishContext: p.attachment, StagingTargetPath: p.staging,
		TargetPath: p.target, VolumeCapability: p.wants, Readonly: p.ReadOnly, Secrets: secrets, VolumeContext: said})
	return err
}

// owned says whether the kubelet gives the volume's files to the pod's group
// (https://kubernetes-csi.github.io/docs/support-fsgroup.html).
func (p *publication) owned() bool {
	if p.group() == nil || p.ReadOnly || p.Block || p.can[spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP] {
		return false
	}
	policy := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
	if p.object != nil && p.object.Spec.FSGroupPolicy != nil {
		policy = *p.object.Spec.FSGroupPolicy
	}
	switch policy {
	case storagev1.NoneFSGroupPolicy:
		return false
	case storagev1.FileFSGroupPolicy:
		return true
	}
	return p.fsType != "" && p.once()
}

// Holds says whether a pod has a volume of this name noted.
func (d *Drivers) Holds(pod types.UID, name string) (bool, error) {
	r, err := read(d.disk.useDir(user{pod, name}))
	return r != nil, err
}

func (d *Drivers) remember(target string, v Volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live[target] = v
}

// attach waits until the volume is attached to this node, if its driver wants that. The node says first that it is in use: what is in use is not
// detached. Both must stand in one version of the node, since who takes a volume from it writes to the version that he has seen.
func (p *publication) attach(ctx context.Context) error {
	if p.inline() || p.object != nil && p.object.Spec.AttachRequired != nil && !*p.object.Spec.AttachRequired {
		return p.note(noted)
	}
	if p.attachmentID == "" {
		p.attachmentID = attachmentName(p.Handle, p.Driver, p.node)
	}
	if err := p.note(noted); err != nil {
		return err
	}
	name := deviceName(p.Driver, p.Handle)
	wait, cancel := context.WithTimeout(ctx, attached)
	defer cancel()
	for {
		n, moved := p.self()
		if n != nil && slices.Contains(n.Status.VolumesInUse, name) &&
			slices.ContainsFunc(n.Status.VolumesAttached, func(a corev1.AttachedVolume) bool { return a.Name == name }) {
			break
		}
		select {
		case <-moved:
		case <-wait.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &Unattached{p.Outer}
		}
	}
	va, err := p.parts.Kube.StorageV1().VolumeAttachments().Get(ctx, p.rec.Attachment, metav1.GetOptions{})
	if err != nil {
		return p.failed("MountVolume.WaitForAttach", fmt.Errorf("volume %s has GET error for volume attachment %s: %w", p.Handle, p.rec.Attachment, err))
	}
	switch {
	case va.DeletionTimestamp != nil:
		return p.failed("MountVolume.WaitForAttach", fmt.Errorf("volume %s is being detached", p.Handle))
	case !va.Status.Attached && va.Status.AttachError != nil:
		return p.failed("MountVolume.WaitForAttach", errors.New(va.Status.AttachError.Message))
	case !va.Status.Attached:
		return p.failed("MountVolume.WaitForAttach", fmt.Errorf("volume attachment %s is not attached", va.Name))
	}
	p.attachment = va.Status.AttachmentMetadata
	return nil
}

// Unattached is the error of a volume that was not attached in time; it names the volume in the pod.
type Unattached struct{ Outer string }

func (u *Unattached) Error() string {
	return fmt.Sprintf("Unable to attach or mount volumes: unmounted volumes=[%s], unattached volumes=[%s], failed to process volumes=[]: timed out waiting for the condition",
		u.Outer, u.Outer)
}

// counts has what is in use counted anew, and told, after a change of a volume; without an attachment it does not count.
func (d *Drivers) counts(attachment string) {
	if attachment == "" {
		return
	}
	d.mu.Lock()
	d.counted = false
	nudge := d.nudge
	d.mu.Unlock()
	nudge()
}

// Contribute tells the node's status which volumes are in use.
func (d *Drivers) Contribute(n *corev1.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.counted {
		names, err := d.disk.inUse()
		if err != nil {
			d.log.Warn("looking for volumes in use", zap.Error(err))
			return // what was said before stays
		}
		d.inUse, d.counted = names, true
	}
	n.Status.VolumesInUse = d.inUse
}
