package attachdetach

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// unmountIn is how long a node that is not healthy may keep a volume that no pod of it wants any more.
const unmountIn = 6 * time.Minute

// want is a volume that pods of a node need to be attached to it.
type want struct {
	volume *corev1.PersistentVolume
	pods   []*corev1.Pod
}

func (w *want) driver() string { return w.volume.Spec.CSI.Driver }

// attachmentName is the name of the attachment of a volume to a node, which drivers rely on.
func attachmentName(handle, driver, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(handle+driver+node)))
}

// ours says whether an attachment has a name that only we give.
func ours(a *storagev1.VolumeAttachment) bool {
	hash, ok := strings.CutPrefix(a.Name, "csi-")
	return ok && len(hash) == 2*sha256.Size && a.Spec.Source.PersistentVolumeName != nil && strings.Trim(hash, "0123456789abcdef") == ""
}

// deviceName is what a volume is called in the status of nodes.
func deviceName(v *corev1.PersistentVolume) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + v.Spec.CSI.Driver + "^" + v.Spec.CSI.VolumeHandle)
}

// shared says whether a volume may be attached to several nodes. One that does not say is left to its driver.
func shared(v *corev1.PersistentVolume) bool {
	return len(v.Spec.AccessModes) == 0 || slices.ContainsFunc(v.Spec.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return m == corev1.ReadWriteMany || m == corev1.ReadOnlyMany
	})
}

// attached is one attachment to the node that is looked at.
type attached struct {
	*storagev1.VolumeAttachment
	volume *corev1.PersistentVolume // nil: its object is gone
	going  bool                     // its deletion has been asked for
	since  time.Time                // since when no pod wants it; zero: one does
}

// name is what the node calls it, empty when that is not known.
func (a *attached) name() corev1.UniqueVolumeName {
	if a.volume == nil {
		return ""
	}
	return deviceName(a.volume)
}

// seen is what is known of a node.
type seen struct {
	node *corev1.Node // nil: it is gone
	// lastInUse is what the node said of its mounts when it was there; nil: nobody heard it.
	lastInUse []corev1.UniqueVolumeName
	wants     map[string]*want     // by the name of the attachment, as the next
	have      map[string]*attached //
	now       time.Time
	patient   bool // volumes are not taken away from a node for its silence
}

// plan is what to do for a node.
type plan struct {
	attach []string // wanted, and not there; whether others have it is yet to be looked at
	detach []detach
	report []corev1.AttachedVolume // what the node is told, sorted
	fresh  []string                // of those, what is wanted and it was not told before
	again  time.Duration
}

// detach is the end of an attachment; forced names why the node was not waited for.
type detach struct {
	*attached
	forced string
}

// decide compares what a node's pods want with what is attached to it. Pure.
func decide(s seen) plan {
	var p plan
	told := map[corev1.UniqueVolumeName]bool{}
	if s.node != nil {
		for _, v := range s.node.Status.VolumesAttached {
			told[v.Name] = true
		}
	}
	for name := range s.wants {
		if s.have[name] == nil && s.node != nil {
			p.attach = append(p.attach, name)
		}
	}
	for name, a := range s.have {
		if a.going {
			continue
		}
		if s.wants[name] == nil {
			forced, wait, now := s.leave(a)
			if now {
				p.detach = append(p.detach, detach{a, forced})
				continue
			}
			if wait > 0 && (p.again == 0 || wait < p.again) {
				p.again = wait
			}
		}
		if a.Status.Attached && a.volume != nil {
			p.report = append(p.report, corev1.AttachedVolume{Name: a.name(), DevicePath: ""})
			if s.wants[name] != nil && !told[a.name()] {
				p.fresh = append(p.fresh, name)
			}
		}
	}
	slices.Sort(p.attach)
	slices.Sort(p.fresh)
	slices.SortFunc(p.detach, func(a, b detach) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.report, func(a, b corev1.AttachedVolume) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return p
}

// leave says whether a volume that no pod wants is to be detached now, and why the node need not have unmounted it; or how long it may
// still take, 0 for as long as it is healthy.
func (s *seen) leave(a *attached) (forced string, wait time.Duration, now bool) {
	if !s.inUse(a) {
		return "", 0, true
	}
	switch {
	case s.node != nil && outOfService(s.node):
		return "out-of-service", 0, true
	case s.node != nil && healthy(s.node), s.patient:
		return "", 0, false
	}
	if wait = unmountIn - s.now.Sub(a.since); wait > 0 {
		return "", wait, false
	}
	return "timeout", 0, true
}

// inUse says whether the node may still have the volume mounted. What nobody has heard of is in use.
func (s *seen) inUse(a *attached) bool {
	list := s.lastInUse
	if s.node != nil {
		list = s.node.Status.VolumesInUse
	} else if list == nil {
		return true
	}
	if a.volume != nil {
		return slices.Contains(list, a.name())
	}
	return slices.ContainsFunc(list, func(n corev1.UniqueVolumeName) bool {
		return strings.HasPrefix(string(n), "kubernetes.io/csi/"+a.Spec.Attacher+"^")
	})
}

func healthy(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func outOfService(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// managed says whether attaching is left to us: every node's, unless its kubelet says that it does so itself.
func managed(n *corev1.Node) bool {
	return n.Annotations["volumes.kubernetes.io/controller-managed-attach-detach"] != "false"
}

// sameAttached compares what a node is told, in whatever order.
func sameAttached(a, b []corev1.AttachedVolume) bool {
	if len(a) != len(b) {
		return false
	}
	by := map[corev1.UniqueVolumeName]string{}
	for _, v := range a {
		by[v.Name] = v.DevicePath
	}
	return !slices.ContainsFunc(b, func(v corev1.AttachedVolume) bool {
		path, has := by[v.Name]
		return !has || path != v.DevicePath
	})
}

// blocked says to one pod that another node has its volume. Names of pods in other namespaces are not its user's to know.
func blocked(volume string, p *corev1.Pod, users []*corev1.Pod) string {
	var near []string
	far := 0
	for _, u := range users {
		if u.Namespace == p.Namespace {
			near = append(near, u.Name)
		} else {
			far++
		}
	}
	slices.Sort(near)
	why := "Volume is already exclusively attached to one node and can't be attached to another"
	switch {
	case len(near) > 0:
		why = "Volume is already used by pod(s) " + strings.Join(near, ", ")
		if far > 0 {
			why += fmt.Sprintf(" and %d pod(s) in different namespaces", far)
		}
	case far > 0:
		why = fmt.Sprintf("Volume is already used by %d pod(s) in different namespaces", far)
	}
	return fmt.Sprintf("Multi-Attach error for volume %q %s", volume, why)
}
