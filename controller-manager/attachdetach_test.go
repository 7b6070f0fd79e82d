package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// TestAttachDetach attaches and detaches volumes of CSI drivers. The test is their attacher, and the kubelet that mounts.
func TestAttachDetach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(w.kube.StorageV1().CSIDrivers().Create(t.Context(), &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "disks.example.com"}}, metav1.CreateOptions{}))(w)
	must(w.kube.StorageV1().CSIDrivers().Create(t.Context(), &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "shares.example.com"},
		Spec: storagev1.CSIDriverSpec{AttachRequired: new(false)}}, metav1.CreateOptions{}))(w)
	w.sub("attaching", testAttach)
	w.sub("moving", testAttachMoves)
	w.sub("failing", testAttachFails)
	w.sub("dying", testAttachOutOfService)
}

// disks are what drivers do and users make.
type disks struct{ storage }

// disk makes a volume and a claim that is bound to it.
func (d disks) disk(name, driver string) *corev1.PersistentVolume {
	d.Helper()
	capacity, none := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, ""
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c := must(d.kube.CoreV1().PersistentVolumeClaims(d.ns).Create(d.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &none, VolumeName: d.ns + "-" + name, AccessModes: modes,
			Resources: corev1.VolumeResourceRequirements{Requests: capacity}},
	}, metav1.CreateOptions{}))(d.world)
	v := must(d.kube.CoreV1().PersistentVolumes().Create(d.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: d.ns + "-" + name},
		Spec: corev1.PersistentVolumeSpec{Capacity: capacity, AccessModes: modes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			ClaimRef:               &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: d.ns, Name: name, UID: c.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: d.ns + "-" + name}}},
	}, metav1.CreateOptions{}))(d.world)
	d.until("claim "+name+" to be bound", func() error { // as the binder does
		c, err := d.kube.CoreV1().PersistentVolumeClaims(d.ns).Get(d.Context(), name, metav1.GetOptions{})
		if err != nil || c.Status.Phase == corev1.ClaimBound {
			return err
		}
		c.Status.Phase, c.Status.AccessModes, c.Status.Capacity = corev1.ClaimBound, modes, capacity
		_, err = d.kube.CoreV1().PersistentVolumeClaims(d.ns).UpdateStatus(d.Context(), c, metav1.UpdateOptions{})
		return err
	})
	return v
}

// pod makes one on a node, with claims.
func (d disks) pod(name, node string, claims ...string) {
	d.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	for _, c := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: c, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c}}})
	}
	must(d.kube.CoreV1().Pods(d.ns).Create(d.Context(), p, metav1.CreateOptions{}))(d.world)
}

func (d disks) remove(pod string) {
	d.Helper()
	now := int64(0)
	if err := d.kube.CoreV1().Pods(d.ns).Delete(d.Context(), pod, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil && !apierrors.IsNotFound(err) {
		d.Fatal(err)
	}
}

// attachments are those of a volume.
func (d disks) attachments(volume string) []storagev1.VolumeAttachment {
	d.Helper()
	list := must(d.kube.StorageV1().VolumeAttachments().List(d.Context(), metav1.ListOptions{}))(d.world)
	return slices.DeleteFunc(list.Items, func(a storagev1.VolumeAttachment) bool { return *a.Spec.Source.PersistentVolumeName != volume })
}

// attachment waits for the only one, on a node.
func (d disks) attachment(volume, node string) (a storagev1.VolumeAttachment) {
	d.Helper()
	d.until(fmt.Sprintf("%s to be attached to %s", volume, node), func() error {
		list := d.attachments(volume)
		if len(list) != 1 || list[0].Spec.NodeName != node || list[0].DeletionTimestamp != nil {
			return fmt.Errorf("%d: %+v", len(list), list)
		}
		a = list[0]
		return nil
	})
	return a
}

// attacher says how an attachment is, and holds it until it is detached.
func (d disks) attacher(name string, status storagev1.VolumeAttachmentStatus) {
	d.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		a, err := d.kube.StorageV1().VolumeAttachments().Get(d.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(a.Finalizers) == 0 {
			a.Finalizers = []string{"external-attacher/disks-example-com"}
			if a, err = d.kube.StorageV1().VolumeAttachments().Update(d.Context(), a, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		a.Status = status
		_, err = d.kube.StorageV1().VolumeAttachments().UpdateStatus(d.Context(), a, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		d.Fatal(err)
	}
}

// detached has the attacher let an attachment go that is being deleted.
func (d disks) detached(name string) {
	d.Helper()
	d.until("attachment "+name+" to go", func() error {
		a, err := d.kube.StorageV1().VolumeAttachments().Get(d.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if a.DeletionTimestamp == nil {
			return fmt.Errorf("nobody deletes it")
		}
		a.Finalizers = nil
		_, err = d.kube.StorageV1().VolumeAttachments().Update(d.Context(), a, metav1.UpdateOptions{})
		return err
	})
}

// mounts is what a kubelet says of its mounts.
func (d disks) mounts(node string, volumes ...string) {
	d.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := d.kube.CoreV1().Nodes().Get(d.Context(), node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Status.VolumesInUse = nil
		for _, v := range volumes {
			n.Status.VolumesInUse = append(n.Status.VolumesInUse, corev1.UniqueVolumeName("kubernetes.io/csi/disks.example.com^"+v))
		}
		_, err = d.kube.CoreV1().Nodes().UpdateStatus(d.Context(), n, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		d.Fatal(err)
	}
}

// told waits until a node is told that it has these volumes.
func (d disks) has(node string, volumes ...string) {
	d.Helper()
	d.until(fmt.Sprintf("%s to be told of %q", node, volumes), func() error {
		n := must(d.kube.CoreV1().Nodes().Get(d.Context(), node, metav1.GetOptions{}))(d.world)
		var have []string
		for _, v := range n.Status.VolumesAttached {
			have = append(have, strings.TrimPrefix(string(v.Name), "kubernetes.io/csi/disks.example.com^"))
		}
		if !slices.Equal(have, volumes) {
			return fmt.Errorf("it is told %q", have)
		}
		return nil
	})
}

func testAttach(w *world, ns string) {
	d := disks{storage{w, ns}}
	w.player.add(w, ns+"-0")
	volume := d.disk("disk", "disks.example.com").Name
	d.disk("share", "shares.example.com")
	d.pod("p", ns+"-0", "disk", "share")
	a := d.attachment(volume, ns+"-0")
	if a.Spec.Attacher != "disks.example.com" || len(a.Name) != 68 {
		w.Errorf("%s %+v", a.Name, a.Spec)
	}
	d.has(ns + "-0")
	d.attacher(a.Name, storagev1.VolumeAttachmentStatus{Attached: true})
	d.has(ns+"-0", volume)
	d.told("p", "SuccessfulAttachVolume", fmt.Sprintf("AttachVolume.Attach succeeded for volume %q ", volume))
	if list := d.attachments(ns + "-share"); len(list) != 0 {
		w.Errorf("what needs no attaching is attached: %+v", list)
	}

	// The kubelet mounts; the pod goes; the kubelet is waited for.
	d.mounts(ns+"-0", volume)
	d.remove("p")
	other := d.disk("other", "disks.example.com").Name
	d.pod("q", ns+"-0", "other") // after which the node has been looked at without the first pod
	b := d.attachment(other, ns+"-0")
	d.attacher(b.Name, storagev1.VolumeAttachmentStatus{Attached: true})
	d.has(ns+"-0", ns+"-disk", ns+"-other")
	if d.attachment(volume, ns+"-0").DeletionTimestamp != nil {
		w.Error("it was detached while it was mounted")
	}
	d.mounts(ns + "-0")
	d.has(ns+"-0", other)
	d.detached(a.Name)

	// A pod that has finished needs nothing, either.
	w.until("the pod to have finished", func() error {
		p := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), "q", metav1.GetOptions{}))(w)
		p.Status.Phase = corev1.PodSucceeded
		_, err := w.kube.CoreV1().Pods(ns).UpdateStatus(w.Context(), p, metav1.UpdateOptions{})
		return err
	})
	d.has(ns + "-0")
	d.detached(b.Name)
}

func testAttachMoves(w *world, ns string) {
	d := disks{storage{w, ns}}
	w.player.add(w, ns+"-0")
	w.player.add(w, ns+"-1")
	volume := d.disk("disk", "disks.example.com").Name
	d.pod("first", ns+"-0", "disk")
	a := d.attachment(volume, ns+"-0")
	d.attacher(a.Name, storagev1.VolumeAttachmentStatus{Attached: true})
	d.has(ns+"-0", volume)
	d.pod("second", ns+"-1", "disk")
	d.told("second", "FailedAttachVolume", fmt.Sprintf("Multi-Attach error for volume %q Volume is already used by pod(s) first", volume))
	d.attachment(volume, ns+"-0") // the only one
	d.remove("first")
	d.has(ns + "-0")
	w.until("the attachment to be deleted, and no other to be made before it is gone", func() error {
		list := d.attachments(volume)
		if len(list) != 1 || list[0].Spec.NodeName != ns+"-0" {
			w.Fatalf("%+v", list)
		}
		if list[0].DeletionTimestamp == nil {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	d.detached(a.Name)
	d.attacher(d.attachment(volume, ns+"-1").Name, storagev1.VolumeAttachmentStatus{Attached: true})
	d.has(ns+"-1", volume)
	d.told("second", "SuccessfulAttachVolume", "")
}

func testAttachFails(w *world, ns string) {
	d := disks{storage{w, ns}}
	w.player.add(w, ns+"-0")
	volume := d.disk("disk", "disks.example.com").Name
	d.pod("p", ns+"-0", "disk")
	a := d.attachment(volume, ns+"-0")
	d.attacher(a.Name, storagev1.VolumeAttachmentStatus{AttachError: &storagev1.VolumeError{Time: metav1.Now(), Message: "no such disk"}})
	d.told("p", "FailedAttachVolume", fmt.Sprintf("AttachVolume.Attach failed for volume %q : no such disk", volume))
	d.attacher(a.Name, storagev1.VolumeAttachmentStatus{Attached: true})
	d.has(ns+"-0", volume)

	// Nothing is written when nothing changes, and what is not ours is left alone.
	theirs := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: ns + "-by-hand"}, Spec: storagev1.VolumeAttachmentSpec{Attacher: "disks.example.com", NodeName: ns + "-0",
		Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}}}
	must(w.kube.StorageV1().VolumeAttachments().Create(w.Context(), theirs, metav1.CreateOptions{}))(w)
	d.remove("p")
	d.detached(a.Name)
	w.until("the node to be told of nothing", func() error {
		n := must(w.kube.CoreV1().Nodes().Get(w.Context(), ns+"-0", metav1.GetOptions{}))(w)
		if len(n.Status.VolumesAttached) != 0 {
			return fmt.Errorf("%v", n.Status.VolumesAttached)
		}
		return nil
	})
	if list := d.attachments(volume); len(list) != 1 || list[0].Name != theirs.Name {
		w.Errorf("%+v", list)
	}
}

// testAttachOutOfService: a node that died with a volume mounted loses it as soon as somebody says that it is out of service.
func testAttachOutOfService(w *world, ns string) {
	d := disks{storage{w, ns}}
	w.player.add(w, ns+"-0")
	volume := d.disk("disk", "disks.example.com").Name
	d.pod("p", ns+"-0", "disk")
	a := d.attachment(volume, ns+"-0")
	d.attacher(a.Name, storagev1.VolumeAttachmentStatus{Attached: true})
	d.has(ns+"-0", volume)
	d.mounts(ns+"-0", volume)
	w.player.set(func() { w.player.nodes[ns+"-0"] = false })
	w.until("the node to be silent", func() error {
		n := must(w.kube.CoreV1().Nodes().Get(w.Context(), ns+"-0", metav1.GetOptions{}))(w)
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%+v", n.Status.Conditions)
	})
	d.remove("p")
	d.has(ns+"-0", volume)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := w.kube.CoreV1().Nodes().Get(context.Background(), ns+"-0", metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: time.Now()}})
		_, err = w.kube.CoreV1().Nodes().Update(context.Background(), n, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	d.detached(a.Name)
	d.has(ns + "-0")
}
