package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"pilothouse.dev/pkg/localvolume"
)

// TestLocalPath makes volumes for claims. Binder and scheduler are played, as far as they have not done it themselves: what they say
// to a provisioner is in annotations.
func TestLocalPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--local-path-dir=/data/volumes")
	must(w.kube.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "local-path"}, Provisioner: localvolume.Provisioner, ReclaimPolicy: new(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer), MountOptions: []string{"noatime"},
	}, metav1.CreateOptions{}))(w)
	w.sub("volumes", testLocalVolume)
	w.sub("refusals", testLocalRefusals)
	w.sub("nodes", testLocalNodes)
}

// storage is what users and the binder do to claims and volumes.
type storage struct {
	*world
	ns string
}

func (s storage) claim(name, class string, mode corev1.PersistentVolumeAccessMode) *corev1.PersistentVolumeClaim {
	s.Helper()
	return must(s.kube.CoreV1().PersistentVolumeClaims(s.ns).Create(s.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{mode},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}},
	}, metav1.CreateOptions{}))(s.world)
}

// annotate says to whom a claim belongs and where its pod goes.
func (s storage) annotate(name, node string) {
	s.Helper()
	s.change(name, func(c *corev1.PersistentVolumeClaim) {
		if c.Annotations == nil {
			c.Annotations = map[string]string{}
		}
		c.Annotations["volume.kubernetes.io/storage-provisioner"], c.Annotations["volume.kubernetes.io/selected-node"] = localvolume.Provisioner, node
	})
}

func (s storage) change(name string, fn func(*corev1.PersistentVolumeClaim)) {
	s.Helper()
	claims := s.kube.CoreV1().PersistentVolumeClaims(s.ns)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		c, err := claims.Get(s.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		fn(c)
		_, err = claims.Update(s.Context(), c, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s storage) volume(claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	return s.kube.CoreV1().PersistentVolumes().Get(s.Context(), "pvc-"+string(claim.UID), metav1.GetOptions{})
}

// made waits for a claim's volume.
func (s storage) made(claim *corev1.PersistentVolumeClaim) (v *corev1.PersistentVolume) {
	s.Helper()
	s.until("the volume of "+claim.Name, func() (err error) { v, err = s.volume(claim); return err })
	return v
}

// phase has the volume say what the binder says, unless it has.
func (s storage) phase(name string, phase corev1.PersistentVolumePhase) {
	s.Helper()
	s.until(fmt.Sprintf("volume %s to be %s", name, phase), func() error {
		v, err := s.kube.CoreV1().PersistentVolumes().Get(s.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && v.Status.Phase == phase {
			return nil
		}
		if err != nil {
			return err
		}
		v.Status.Phase = phase
		_, err = s.kube.CoreV1().PersistentVolumes().UpdateStatus(s.Context(), v, metav1.UpdateOptions{})
		return err
	})
}

// told waits for an event of a claim.
func (s storage) told(claim, reason, words string) {
	s.Helper()
	s.until(fmt.Sprintf("event %s of %s", reason, claim), func() error {
		list, err := s.kube.CoreV1().Events(s.ns).List(s.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var have []string
		for _, e := range list.Items {
			if e.InvolvedObject.Name == claim && e.Reason == reason && strings.Contains(e.Message, words) {
				return nil
			}
			have = append(have, e.InvolvedObject.Name+" "+e.Reason+": "+e.Message)
		}
		return errors.New(strings.Join(have, "; "))
	})
}

func testLocalVolume(w *world, ns string) {
	s := storage{w, ns}
	w.player.add(w, ns+"-0")
	label(w, ns+"-0", corev1.LabelHostname, "host-0")
	claim := s.claim("data", "local-path", corev1.ReadWriteOnce)
	s.annotate("data", ns+"-0")
	v := s.made(claim)
	if v.Spec.Local == nil || v.Spec.Local.Path != "/data/volumes/"+v.Name || v.Labels[localvolume.NodeLabel] != ns+"-0" || !slices.Contains(v.Finalizers, localvolume.Finalizer) ||
		v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0] != "host-0" || v.Spec.MountOptions[0] != "noatime" {
		w.Errorf("%+v", v)
	}
	s.told("data", "Provisioning", fmt.Sprintf("External provisioner is provisioning volume for claim %q", ns+"/data"))
	s.told("data", "ProvisioningSucceeded", "Successfully provisioned volume "+v.Name)

	// The claim is bound, and ends: the volume is deleted, and stays for its node's kubelet.
	s.change("data", func(c *corev1.PersistentVolumeClaim) {
		if c.Spec.VolumeName == "" {
			c.Spec.VolumeName = v.Name
		}
	})
	s.phase(v.Name, corev1.VolumeBound)
	if err := w.kube.CoreV1().PersistentVolumeClaims(ns).Delete(w.Context(), "data", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the claim to be gone", func() error {
		_, err := w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "data", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %v", err)
	})
	s.phase(v.Name, corev1.VolumeReleased)
	w.until("the volume to go, kept by its finalizer alone", func() error {
		v, err := s.volume(claim)
		if err != nil {
			w.Fatal(err) // nobody but the kubelet may end it
		}
		if v.DeletionTimestamp == nil || len(v.Finalizers) != 1 || v.Finalizers[0] != localvolume.Finalizer {
			return fmt.Errorf("%v %v", v.DeletionTimestamp, v.Finalizers)
		}
		return nil
	})
	// What the kubelet does.
	node := w.cluster.Clients("system:node:"+ns+"-0", "system:nodes").Kube
	if list, err := node.CoreV1().PersistentVolumes().List(w.Context(), metav1.ListOptions{LabelSelector: localvolume.NodeLabel + "=" + ns + "-0"}); err != nil || len(list.Items) != 1 {
		w.Errorf("the node sees %v %v", list, err)
	}
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := node.CoreV1().PersistentVolumes().Patch(w.Context(), v.Name, "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null,"labels":{"a":"b"}}}`), metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		w.Errorf("a node labels a volume: %v", err)
	}
	if _, err := w.cluster.Clients("system:node:steady", "system:nodes").Kube.CoreV1().PersistentVolumes().Patch(w.Context(), v.Name, "application/merge-patch+json", patch, metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		w.Errorf("another node lets it go: %v", err)
	}
	must(node.CoreV1().PersistentVolumes().Patch(w.Context(), v.Name, "application/merge-patch+json", patch, metav1.PatchOptions{}))(w)
	if _, err := s.volume(claim); !apierrors.IsNotFound(err) {
		w.Errorf("the volume is there: %v", err)
	}
}

func testLocalRefusals(w *world, ns string) {
	s := storage{w, ns}
	for name, mode := range map[string]corev1.PersistentVolumeAccessMode{"many": corev1.ReadWriteMany, "readers": corev1.ReadOnlyMany} {
		s.claim(name, "local-path", mode)
		s.annotate(name, "steady")
		s.told(name, "ProvisioningFailed", fmt.Sprintf(`failed to provision volume with StorageClass "local-path": access mode %s is not supported`, mode))
	}
	late := s.claim("late", ns+"-class", corev1.ReadWriteOncePod)
	s.annotate("late", "steady")
	s.told("late", "ProvisioningFailed", "not found")
	label(w, "steady", corev1.LabelHostname, "steady")
	must(w.kube.StorageV1().StorageClasses().Create(w.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: ns + "-class"}, Provisioner: localvolume.Provisioner, ReclaimPolicy: new(corev1.PersistentVolumeReclaimRetain),
		VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer),
	}, metav1.CreateOptions{}))(w)
	v := s.made(late)
	if v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		w.Errorf("%+v", v.Spec)
	}
	list := must(w.kube.CoreV1().PersistentVolumes().List(w.Context(), metav1.ListOptions{}))(w)
	for i := range list.Items {
		if ref := list.Items[i].Spec.ClaimRef; ref != nil && ref.Namespace == ns && ref.Name != "late" {
			w.Errorf("%s has a volume", ref.Name)
		}
	}
}

func testLocalNodes(w *world, ns string) {
	s := storage{w, ns}
	s.claim("lost", "local-path", corev1.ReadWriteOnce)
	s.annotate("lost", "nowhere")
	s.told("lost", "ProvisioningFailed", `node "nowhere" is gone; another node is to be chosen`)
	w.until("the scheduler to be asked again", func() error {
		c := must(w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "lost", metav1.GetOptions{}))(w)
		if on, chosen := c.Annotations["volume.kubernetes.io/selected-node"]; chosen {
			return fmt.Errorf("it is to be on %s", on)
		}
		return nil
	})
}

// label gives a node a label.
func label(w *world, node, key, value string) {
	w.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value)
	must(w.kube.CoreV1().Nodes().Patch(context.Background(), node, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}))(w)
}
