package conformance

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// wedding is a volume and a claim that are made for each other: of a class of their own.
type wedding struct {
	*row
	ns, label     string
	volume, claim string
}

// wed makes a volume and a claim and waits until the cluster has bound them.
func (r *row) wed() *wedding {
	r.Helper()
	w := &wedding{row: r, ns: r.namespace(), label: r.unique()}
	w.make()
	return w
}

func (w *wedding) make() {
	w.Helper()
	class, mode := w.unique(), corev1.PersistentVolumeFilesystem
	labels := map[string]string{rowLabel: w.label}
	v, err := w.kube.CoreV1().PersistentVolumes().Create(w.ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{GenerateName: w.prefix + "-", Labels: labels},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{"storage": resource.MustParse("1Gi")}, VolumeMode: &mode, StorageClassName: class,
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: "nobody.conformance.example.com", VolumeHandle: "e2e-conformance"}},
		},
	}, metav1.CreateOptions{})
	w.must(err, "creating a volume")
	w.volume = v.Name
	w.sweep(w.dyn.Resource(corev1.SchemeGroupVersion.WithResource("persistentvolumes")), v.Name)
	c, err := w.kube.CoreV1().PersistentVolumeClaims(w.ns).Create(w.ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "claim-", Labels: labels},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	w.must(err, "creating a claim")
	w.claim = c.Name
	w.eventually("claim and volume are bound", func() (bool, error) {
		c, err := w.kube.CoreV1().PersistentVolumeClaims(w.ns).Get(w.ctx, w.claim, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		v, err := w.kube.CoreV1().PersistentVolumes().Get(w.ctx, w.volume, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if c.Status.Phase == corev1.ClaimBound && v.Status.Phase == corev1.VolumeBound && c.Spec.VolumeName == v.Name &&
			v.Spec.ClaimRef != nil && v.Spec.ClaimRef.UID == c.UID {
			return true, nil
		}
		return false, fmt.Errorf("claim %s, volume %s", c.Status.Phase, v.Status.Phase)
	})
}

// listed looks for both by their label.
func (w *wedding) listed() {
	w.Helper()
	volumes, err := w.kube.CoreV1().PersistentVolumes().List(w.ctx, labelled(w.label))
	w.must(err, "listing volumes")
	w.equal("volumes", len(volumes.Items), 1)
	w.equal("the volume", volumes.Items[0].Name, w.volume)
	claims, err := w.kube.CoreV1().PersistentVolumeClaims(w.ns).List(w.ctx, labelled(w.label))
	w.must(err, "listing claims")
	w.equal("claims", len(claims.Items), 1)
	w.equal("the claim", claims.Items[0].Name, w.claim)
}

// gone waits until neither is there.
func (w *wedding) gone() {
	w.Helper()
	w.eventually("the claim is gone", func() (bool, error) {
		_, err := w.kube.CoreV1().PersistentVolumeClaims(w.ns).Get(w.ctx, w.claim, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	w.eventually("the volume is gone", func() (bool, error) {
		_, err := w.kube.CoreV1().PersistentVolumes().Get(w.ctx, w.volume, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}

// STO-007: the status of volume and claim is read, patched and updated.
func volumeStatuses(r *row) {
	w := r.wed()
	w.listed()
	volumes, claims := r.kube.CoreV1().PersistentVolumes(), r.kube.CoreV1().PersistentVolumeClaims(w.ns)

	u, err := r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims")).Namespace(w.ns).Get(r.ctx, w.claim, metav1.GetOptions{}, "status")
	r.must(err, "getting the claim's status")
	r.equal("the claim's phase", u.Object["status"].(map[string]any)["phase"], any("Bound"))
	u, err = r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("persistentvolumes")).Get(r.ctx, w.volume, metav1.GetOptions{}, "status")
	r.must(err, "getting the volume's status")
	r.equal("the volume's phase", u.Object["status"].(map[string]any)["phase"], any("Bound"))

	c, err := claims.Patch(r.ctx, w.claim, types.MergePatchType,
		[]byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True","reason":"E2E patched","message":"by a patch"}]}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the claim's status")
	r.equal("the claim's patched conditions", claimConditions(c), []string{"StatusPatched True E2E patched by a patch"})
	v, err := volumes.Patch(r.ctx, w.volume, types.MergePatchType, []byte(`{"status":{"message":"StatusPatched","reason":"E2E patchStatus"}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the volume's status")
	r.equal("the volume's patched status", []string{v.Status.Message, v.Status.Reason}, []string{"StatusPatched", "E2E patchStatus"})

	r.again("updating the claim's status", func() error {
		now, err := claims.Get(r.ctx, w.claim, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Status.Conditions = append(now.Status.Conditions, corev1.PersistentVolumeClaimCondition{
			Type: "StatusUpdated", Status: corev1.ConditionTrue, Reason: "E2E updated", Message: "by an update"})
		c, err = claims.UpdateStatus(r.ctx, now, metav1.UpdateOptions{})
		return err
	})
	r.equal("the claim's updated conditions", claimConditions(c), []string{"StatusPatched True E2E patched by a patch", "StatusUpdated True E2E updated by an update"})
	r.again("updating the volume's status", func() error {
		now, err := volumes.Get(r.ctx, w.volume, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Status.Message, now.Status.Reason = "StatusUpdated", "E2E updateStatus"
		v, err = volumes.UpdateStatus(r.ctx, now, metav1.UpdateOptions{})
		return err
	})
	r.equal("the volume's updated status", []string{v.Status.Message, v.Status.Reason}, []string{"StatusUpdated", "E2E updateStatus"})
	r.must(claims.Delete(r.ctx, w.claim, metav1.DeleteOptions{}), "deleting the claim")
	r.must(volumes.Delete(r.ctx, w.volume, metav1.DeleteOptions{}), "deleting the volume")
	w.gone()
}

func claimConditions(c *corev1.PersistentVolumeClaim) (lines []string) {
	for _, x := range c.Status.Conditions {
		lines = append(lines, fmt.Sprintf("%s %s %s %s", x.Type, x.Status, x.Reason, x.Message))
	}
	return lines
}

// STO-008: volume and claim are made, listed, read, patched, deleted, made again, updated, and deleted as collections.
func volumeLife(r *row) {
	w := r.wed()
	w.listed()
	volumes, claims := r.kube.CoreV1().PersistentVolumes(), r.kube.CoreV1().PersistentVolumeClaims(w.ns)
	v, err := volumes.Patch(r.ctx, w.volume, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"volume"}}}`), metav1.PatchOptions{})
	r.must(err, "patching the volume")
	r.equal("the volume's label", v.Labels["patched"], "volume")
	c, err := claims.Patch(r.ctx, w.claim, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"claim"}}}`), metav1.PatchOptions{})
	r.must(err, "patching the claim")
	r.equal("the claim's label", c.Labels["patched"], "claim")
	r.must(claims.Delete(r.ctx, w.claim, metav1.DeleteOptions{}), "deleting the claim")
	r.must(volumes.Delete(r.ctx, w.volume, metav1.DeleteOptions{}), "deleting the volume")
	w.gone()

	w.make()
	w.listed()
	r.again("updating the volume", func() error {
		now, err := volumes.Get(r.ctx, w.volume, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Labels["updated"] = "volume"
		v, err = volumes.Update(r.ctx, now, metav1.UpdateOptions{})
		return err
	})
	r.equal("the volume's new label", v.Labels["updated"], "volume")
	r.again("updating the claim", func() error {
		now, err := claims.Get(r.ctx, w.claim, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Labels["updated"] = "claim"
		c, err = claims.Update(r.ctx, now, metav1.UpdateOptions{})
		return err
	})
	r.equal("the claim's new label", c.Labels["updated"], "claim")
	r.must(claims.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(w.label)), "deleting the claims")
	r.must(volumes.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(w.label)), "deleting the volumes")
	w.gone()
}
