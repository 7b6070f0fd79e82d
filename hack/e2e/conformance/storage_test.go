package conformance

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// STO-001
func csiDrivers(r *row) {
	r.operate(operations{
		gvr: storagev1.SchemeGroupVersion.WithResource("csidrivers"), kind: "CSIDriver",
		manifest: `{spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Ephemeral]}}`,
		edit:     `{spec: {podInfoOnMount: false, fsGroupPolicy: File}}`,
	})
}

// STO-002: pods that have inline volumes of a driver are objects like others: made, listed, got, patched and deleted.
func csiInlineVolumes(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().Pods(ns)
	driver, label := r.unique(), r.unique()
	_, err := r.kube.StorageV1().CSIDrivers().Create(r.ctx, &storagev1.CSIDriver{
		ObjectMeta: metav1.ObjectMeta{Name: driver, Labels: map[string]string{rowLabel: label}},
		Spec:       storagev1.CSIDriverSpec{VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral}},
	}, metav1.CreateOptions{})
	r.must(err, "creating a driver")
	r.sweep(r.dyn.Resource(storagev1.SchemeGroupVersion.WithResource("csidrivers")), driver)
	readOnly := true
	source := &corev1.CSIVolumeSource{Driver: driver, ReadOnly: &readOnly, VolumeAttributes: map[string]string{"size": "1"}}
	for _, name := range []string{"one", "two"} {
		pod, err := client.Create(r.ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: label}},
			Spec: corev1.PodSpec{
				// No node has this, so nobody tries to run it.
				NodeSelector: map[string]string{"conformance.example.com/nobody": "has-this"},
				Containers:   []corev1.Container{{Name: "c", Image: "testapp", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
				Volumes:      []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{CSI: source}}},
			},
		}, metav1.CreateOptions{})
		r.must(err, "creating a pod")
		volume := pod.Spec.Volumes[slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "v" })]
		r.equal("the volume of a created pod", volume.CSI, source)
	}
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting a pod")
	r.equal("the volume of a pod got", got.Spec.Volumes[0].CSI, source)
	list, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing pods")
	r.equal("pods", len(list.Items), 2)
	for _, pod := range list.Items {
		r.equal("driver of a listed pod's volume", pod.Spec.Volumes[0].CSI.Driver, driver)
	}
	now := int64(0)
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, labelled(label)), "deleting the pods")
	r.eventually("the pods are gone", func() (bool, error) {
		list, err := client.List(r.ctx, labelled(label))
		return err == nil && len(list.Items) == 0, err
	})
	r.must(r.kube.StorageV1().CSIDrivers().DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the drivers")
	_, err = r.kube.StorageV1().CSIDrivers().Get(r.ctx, driver, metav1.GetOptions{})
	r.refused(err, metav1.StatusReasonNotFound, "getting the deleted driver")
}

// STO-003
func csiNodes(r *row) {
	r.operate(operations{
		gvr: storagev1.SchemeGroupVersion.WithResource("csinodes"), kind: "CSINode",
		manifest: `{spec: {drivers: [{name: one.example.com, nodeID: id-1, topologyKeys: [example.com/zone], allocatable: {count: 10}}]}}`,
		edit: `
spec:
  drivers:
  - {name: one.example.com, nodeID: id-1, topologyKeys: [example.com/zone], allocatable: {count: 10}}
  - {name: two.example.com, nodeID: id-2, topologyKeys: null}`,
	})
}

// STO-004
func csiStorageCapacities(r *row) {
	r.operate(operations{
		gvr: storagev1.SchemeGroupVersion.WithResource("csistoragecapacities"), kind: "CSIStorageCapacity", namespaced: true,
		manifest: `{storageClassName: ` + r.unique() + `, nodeTopology: {matchLabels: {example.com/zone: a}}, capacity: 10Gi}`,
		edit:     `{capacity: 5Gi, maximumVolumeSize: 1Gi}`,
	})
}

// STO-009
func storageClasses(r *row) {
	r.operate(operations{
		gvr: storagev1.SchemeGroupVersion.WithResource("storageclasses"), kind: "StorageClass",
		manifest: `{provisioner: e2e-fake-provisioner, parameters: {foo: bar}, reclaimPolicy: Delete, volumeBindingMode: Immediate}`,
		edit:     `{mountOptions: [ro, soft], allowVolumeExpansion: true}`,
	})
}

// attachments are VolumeAttachments of a driver that nobody has, on nodes that are not there.
func attachments() operations {
	return operations{
		gvr: storagev1.SchemeGroupVersion.WithResource("volumeattachments"), kind: "VolumeAttachment",
		manifest: `{spec: {attacher: nobody.conformance.example.com, nodeName: nobody, source: {persistentVolumeName: pv}}}`,
		edit:     `{metadata: {labels: {edited: "yes"}}}`, // the spec never changes
		status:   `{status: {attached: false, attachError: {time: "2026-01-01T00:00:00Z", message: "patched: no such driver"}}}`,
		update:   `{status: {attached: true, attachmentMetadata: {device: sdz}, attachError: null}}`,
		silent:   true,
	}
}

// STO-015: the status of an attachment is read, patched and updated; the spec stays.
func volumeAttachmentStatus(r *row) {
	o := attachments()
	client := r.dyn.Resource(o.gvr)
	wish := r.object(o, r.unique(), r.unique())
	made, err := client.Create(r.ctx, wish, metav1.CreateOptions{})
	r.must(err, "creating")
	r.sweep(client, made.GetName())
	r.equal("attached at first", attachedOf(made), any(false))
	from := labelled(wish.GetLabels()[rowLabel])
	from.ResourceVersion = made.GetResourceVersion()
	w := r.follow(client.Watch(r.ctx, from))
	o.update = `{status: {attached: true, attachmentMetadata: {device: sdz}}}`
	r.statusOfOne(o, client, w, made.GetName())
	// Who updates the object and not its status changes no status.
	got, err := client.Get(r.ctx, made.GetName(), metav1.GetOptions{})
	r.must(err, "getting")
	merge(got.Object, r.tree(`{status: {attached: false}}`))
	got, err = client.Update(r.ctx, got, metav1.UpdateOptions{})
	r.must(err, "updating the object")
	r.equal("attached after an update of the object", attachedOf(got), any(true))
	r.must(client.Delete(r.ctx, made.GetName(), metav1.DeleteOptions{}), "deleting")
}

func attachedOf(u *unstructured.Unstructured) any {
	attached, _, err := unstructured.NestedFieldNoCopy(u.Object, "status", "attached")
	if err != nil {
		return err
	}
	return attached
}

// STO-016
func volumeAttachmentLife(r *row) {
	o := attachments()
	o.status, o.update = "", ""
	r.operate(o)
	// What it attaches can never be changed.
	client := r.dyn.Resource(o.gvr)
	made, err := client.Create(r.ctx, r.object(o, r.unique(), r.unique()), metav1.CreateOptions{})
	r.must(err, "creating")
	r.sweep(client, made.GetName())
	merge(made.Object, r.tree(`{spec: {nodeName: other}}`))
	_, err = client.Update(r.ctx, made, metav1.UpdateOptions{})
	r.refused(err, metav1.StatusReasonInvalid, "updating the spec")
	if !strings.Contains(err.Error(), "field is immutable") {
		r.Errorf("updating the spec: %v", err)
	}
	r.must(client.Delete(r.ctx, made.GetName(), metav1.DeleteOptions{}), "deleting")
}

// STO-017
func volumeAttributesClasses(r *row) {
	r.operate(operations{
		gvr: storagev1.SchemeGroupVersion.WithResource("volumeattributesclasses"), kind: "VolumeAttributesClass",
		manifest: `{driverName: e2e-fake-csi-driver, parameters: {iops: "100"}}`,
		edit:     `{metadata: {labels: {edited: "yes"}}}`, // the rest never changes
	})
}
