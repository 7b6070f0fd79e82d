package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestVolumes is what becomes of claims and volumes: binding, releasing, growing, and what pods get of their own.
func TestVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []*storagev1.StorageClass{
		storageClass("immediate", "example.com/disk", storagev1.VolumeBindingImmediate),
		storageClass("waiting", "example.com/disk", storagev1.VolumeBindingWaitForFirstConsumer),
		storageClass("local", "pilothouse.dev/local-path", storagev1.VolumeBindingImmediate),
	} {
		must(w.kube.StorageV1().StorageClasses().Create(t.Context(), c, metav1.CreateOptions{}))(w)
	}
	w.sub("bind-immediate", bindImmediately)
	w.sub("bind-waiting", bindWaiting)
	w.sub("bind-named", bindNamed)
	w.sub("default-class", defaultClassLater)
	w.sub("reclaim", reclaim)
	w.sub("misbound", misbound)
	w.sub("race", volumeRace)
	w.sub("broken-off", brokenOff)
	w.sub("expand", expand)
	w.sub("ephemeral", ephemeralVolumes)
}

func storageClass(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	yes := true
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode, AllowVolumeExpansion: &yes}
}

func (w *world) volume(name, size, class string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	w.Helper()
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	v.Spec.Capacity = corev1.ResourceList{"storage": resource.MustParse(size)}
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/tmp/" + name}
	v.Spec.StorageClassName = class
	v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	for _, f := range change {
		f(v)
	}
	return must(w.kube.CoreV1().PersistentVolumes().Create(w.Context(), v, metav1.CreateOptions{}))(w)
}

func (w *world) claim(ns, name, size, class string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	w.Helper()
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse(size)}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.StorageClassName = &class
	for _, f := range change {
		f(c)
	}
	return must(w.kube.CoreV1().PersistentVolumeClaims(ns).Create(w.Context(), c, metav1.CreateOptions{}))(w)
}

func (w *world) getClaim(ns, name string) *corev1.PersistentVolumeClaim {
	w.Helper()
	return must(w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), name, metav1.GetOptions{}))(w)
}

func (w *world) getVolume(name string) *corev1.PersistentVolume {
	w.Helper()
	return must(w.kube.CoreV1().PersistentVolumes().Get(w.Context(), name, metav1.GetOptions{}))(w)
}

// bound waits until a claim and its volume know each other.
func (w *world) bound(ns, name, to string) {
	w.Helper()
	w.until(fmt.Sprintf("claim %s to be bound to %s", name, to), func() error {
		c, v := w.getClaim(ns, name), w.getVolume(to)
		if c.Status.Phase != corev1.ClaimBound || c.Spec.VolumeName != to || v.Status.Phase != corev1.VolumeBound || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != c.UID {
			return fmt.Errorf("claim %+v %+v, volume %+v %s", c.Spec.VolumeName, c.Status, v.Spec.ClaimRef, v.Status.Phase)
		}
		return nil
	})
}

// phases waits until claim and volume are in these phases; an empty one is not looked at.
func (w *world) phases(ns, name string, claim corev1.PersistentVolumeClaimPhase, volume string, phase corev1.PersistentVolumePhase) {
	w.Helper()
	w.until(fmt.Sprintf("claim %q to be %q and volume %q to be %q", name, claim, volume, phase), func() error {
		if claim != "" {
			if c := w.getClaim(ns, name); c.Status.Phase != claim {
				return fmt.Errorf("the claim is %s", c.Status.Phase)
			}
		}
		if phase != "" {
			if v := w.getVolume(volume); v.Status.Phase != phase {
				return fmt.Errorf("the volume is %s", v.Status.Phase)
			}
		}
		return nil
	})
}

// hears waits for an event about an object.
func (w *world) hears(ns, name, reason, message string) {
	w.Helper()
	w.until(fmt.Sprintf("%s to be told %s", name, reason), func() error {
		list := must(w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name}))(w)
		var lines []string
		for _, e := range list.Items {
			if e.Reason == reason && strings.Contains(e.Message, message) {
				return nil
			}
			lines = append(lines, e.Reason+" "+e.Message)
		}
		return errors.New(strings.Join(lines, "\n"))
	})
}

func bindImmediately(w *world, ns string) {
	w.claim(ns, "first", "2Gi", "none") // before there is a volume
	w.hears(ns, "first", "ProvisioningFailed", `storageclass.storage.k8s.io "none" not found`)
	w.volume("im-large", "9Gi", "none")
	w.bound(ns, "first", "im-large")
	c, v := w.getClaim(ns, "first"), w.getVolume("im-large")
	if c.Annotations["pv.kubernetes.io/bind-completed"] != "yes" || c.Annotations["pv.kubernetes.io/bound-by-controller"] != "yes" || v.Annotations["pv.kubernetes.io/bound-by-controller"] != "yes" {
		w.Errorf("annotations of the claim %v, of the volume %v", c.Annotations, v.Annotations)
	}
	if c.Status.Capacity.Storage().String() != "9Gi" || len(c.Status.AccessModes) != 1 {
		w.Errorf("status %+v", c.Status)
	}
	for name, size := range map[string]string{"im-a": "5Gi", "im-b": "3Gi", "im-c": "1Gi"} {
		w.volume(name, size, "none")
		w.phases(ns, "", "", name, corev1.VolumeAvailable)
	}
	w.claim(ns, "second", "2Gi", "none")
	w.bound(ns, "second", "im-b")
	w.claim(ns, "asks", "1Gi", "immediate")
	w.hears(ns, "asks", "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner 'example.com/disk'")
	w.until("the provisioner to be asked", func() error {
		a := w.getClaim(ns, "asks").Annotations
		if a["volume.kubernetes.io/storage-provisioner"] != "example.com/disk" || a["volume.beta.kubernetes.io/storage-provisioner"] != "example.com/disk" {
			return fmt.Errorf("annotations %v", a)
		}
		return nil
	})
	asks := w.getClaim(ns, "asks")
	w.volume("im-made", "1Gi", "immediate", madeFor(asks, "example.com/disk"))
	w.bound(ns, "asks", "im-made")
}

// madeFor is what a provisioner writes.
func madeFor(c *corev1.PersistentVolumeClaim, provisioner string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Annotations = map[string]string{"pv.kubernetes.io/provisioned-by": provisioner}
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		v.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID}
	}
}

func bindWaiting(w *world, ns string) {
	w.volume("wa-there", "1Gi", "waiting")
	w.claim(ns, "data", "1Gi", "waiting")
	w.hears(ns, "data", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	w.phases(ns, "data", corev1.ClaimPending, "wa-there", corev1.VolumeAvailable)
	// As the scheduler does it, with a node that a provisioner is to use.
	w.annotate(ns, "data", `{"volume.kubernetes.io/selected-node":"steady"}`)
	w.bound(ns, "data", "wa-there") // what is there goes first, as nothing was said of a volume
	c := w.claim(ns, "more", "1Gi", "waiting")
	w.hears(ns, "more", "WaitForFirstConsumer", "")
	w.annotate(ns, "more", `{"volume.kubernetes.io/selected-node":"steady"}`)
	w.hears(ns, "more", "ExternalProvisioning", "'example.com/disk'")
	w.volume("wa-made", "1Gi", "waiting", madeFor(c, "example.com/disk"))
	w.bound(ns, "more", "wa-made")
	// With a volume that the scheduler has chosen.
	c = w.claim(ns, "chosen", "1Gi", "waiting")
	w.volume("wa-chosen", "1Gi", "waiting", func(v *corev1.PersistentVolume) {
		v.Annotations = map[string]string{"pv.kubernetes.io/bound-by-controller": "yes"}
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: ns, Name: "chosen", UID: c.UID}
	})
	w.bound(ns, "chosen", "wa-chosen")
}

func (w *world) annotate(ns, name, annotations string) {
	w.Helper()
	patch := `{"metadata":{"annotations":` + annotations + `}}`
	must(w.kube.CoreV1().PersistentVolumeClaims(ns).Patch(w.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}))(w)
}

func bindNamed(w *world, ns string) {
	// The volume says for whom it is, without UID, before there is a claim.
	w.volume("na-promised", "5Gi", "none", func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: ns, Name: "heir"}
	})
	w.phases(ns, "", "", "na-promised", corev1.VolumeAvailable)
	w.volume("na-small", "1Gi", "none")
	w.claim(ns, "heir", "1Gi", "none")
	w.bound(ns, "heir", "na-promised")
	if a := w.getVolume("na-promised").Annotations["pv.kubernetes.io/bound-by-controller"]; a != "" {
		w.Error("what the user has bound is said to be bound by the controller")
	}
	// The claim says which it wants, before there is a volume.
	w.claim(ns, "wants", "1Gi", "none", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "na-later" })
	w.phases(ns, "wants", corev1.ClaimPending, "na-small", corev1.VolumeAvailable)
	w.volume("na-later", "1Gi", "none")
	w.bound(ns, "wants", "na-later")
	// One that does not fit, one that is taken.
	w.claim(ns, "misfit", "9Gi", "none", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "na-small" })
	w.hears(ns, "misfit", "VolumeMismatch", `Cannot bind to requested volume "na-small": requested PV is too small`)
	w.claim(ns, "late", "1Gi", "none", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "na-later" })
	w.hears(ns, "late", "FailedBinding", `volume "na-later" already bound to a different claim.`)
}

func defaultClassLater(w *world, ns string) {
	w.claim(ns, "patient", "1Gi", "", func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil })
	w.claim(ns, "proud", "1Gi", "")
	w.hears(ns, "patient", "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	w.hears(ns, "proud", "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	class := storageClass("default", "example.com/disk", storagev1.VolumeBindingImmediate)
	class.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	must(w.kube.StorageV1().StorageClasses().Create(w.Context(), class, metav1.CreateOptions{}))(w)
	w.hears(ns, "patient", "ExternalProvisioning", "example.com/disk")
	if got := w.getClaim(ns, "patient").Spec.StorageClassName; got == nil || *got != "default" {
		w.Errorf("its class is %v", got)
	}
	if got := w.getClaim(ns, "proud").Spec.StorageClassName; got == nil || *got != "" {
		w.Errorf("the class of who wants none is %v", got)
	}
	if err := w.kube.StorageV1().StorageClasses().Delete(w.Context(), "default", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

func reclaim(w *world, ns string) {
	policies := map[string]corev1.PersistentVolumeReclaimPolicy{"retain": corev1.PersistentVolumeReclaimRetain, "delete": corev1.PersistentVolumeReclaimDelete, "recycle": corev1.PersistentVolumeReclaimRecycle}
	for name, policy := range policies {
		w.volume("re-"+name, "1Gi", "re-"+name, func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = policy })
		w.claim(ns, name, "1Gi", "re-"+name)
		w.bound(ns, name, "re-"+name)
	}
	c := w.claim(ns, "made", "1Gi", "immediate")
	w.volume("re-made", "1Gi", "immediate", madeFor(c, "example.com/disk"))
	w.bound(ns, "made", "re-made")
	if err := w.kube.CoreV1().PersistentVolumeClaims(ns).DeleteCollection(w.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		w.Fatal(err)
	}
	w.phases(ns, "", "", "re-retain", corev1.VolumeReleased)
	w.phases(ns, "", "", "re-made", corev1.VolumeReleased) // its provisioner deletes it
	w.phases(ns, "", "", "re-delete", corev1.VolumeFailed)
	w.phases(ns, "", "", "re-recycle", corev1.VolumeFailed)
	w.hears("default", "re-delete", "VolumeFailedDelete", "no deletable volume plugin matched")
	w.hears("default", "re-recycle", "VolumeFailedRecycle", "No recycler plugin found for the volume!")
	// A new claim of the old name gets nothing of the old one, until a person gives the volume free.
	w.claim(ns, "retain", "1Gi", "re-retain")
	w.hears(ns, "retain", "ProvisioningFailed", "not found")
	w.phases(ns, "retain", corev1.ClaimPending, "re-retain", corev1.VolumeReleased)
	must(w.kube.CoreV1().PersistentVolumes().Patch(w.Context(), "re-retain", types.MergePatchType, []byte(`{"spec":{"claimRef":null}}`), metav1.PatchOptions{}))(w)
	w.bound(ns, "retain", "re-retain")
	// A volume that is deleted while it is bound stays until its claim is gone.
	if err := w.kube.CoreV1().PersistentVolumes().Delete(w.Context(), "re-retain", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.phases(ns, "retain", corev1.ClaimBound, "re-retain", corev1.VolumeBound)
	if err := w.kube.CoreV1().PersistentVolumeClaims(ns).Delete(w.Context(), "retain", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the volume to go with its claim", func() error {
		_, err := w.kube.CoreV1().PersistentVolumes().Get(w.Context(), "re-retain", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
}

func misbound(w *world, ns string) {
	w.volume("mi", "1Gi", "none", func(v *corev1.PersistentVolume) { v.Finalizers = nil })
	w.claim(ns, "loser", "1Gi", "none", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "mi" })
	w.bound(ns, "loser", "mi")
	// Somebody makes a claim that says it is bound to the same volume.
	w.claim(ns, "liar", "1Gi", "none", func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = "mi"
		c.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
	})
	w.phases(ns, "liar", corev1.ClaimLost, "mi", corev1.VolumeBound)
	w.hears(ns, "liar", "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
	// The volume vanishes under its claim.
	if err := w.kube.CoreV1().PersistentVolumes().Delete(w.Context(), "mi", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the volume to vanish", func() error { // whatever protects it is taken away again and again
		_, err := w.kube.CoreV1().PersistentVolumes().Patch(w.Context(), "mi", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
	w.phases(ns, "loser", corev1.ClaimLost, "", "")
	w.hears(ns, "loser", "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
}

func volumeRace(w *world, ns string) {
	const claims, volumes = 20, 10
	for i := range claims {
		w.claim(ns, fmt.Sprintf("c%02d", i), "1Gi", "race")
	}
	for i := range volumes {
		w.volume(fmt.Sprintf("race-%02d", i), fmt.Sprintf("%dGi", 1+i%3), "race")
	}
	w.until("ten claims to be bound", func() error {
		n, err := w.wedded(ns, "race-")
		if err != nil {
			w.Error(err)
		}
		if n != volumes {
			return fmt.Errorf("%d are bound", n)
		}
		return nil
	})
	// Half of them go, and their volumes are given free by hand: others get them, each one.
	list := must(w.kube.CoreV1().PersistentVolumes().List(w.Context(), metav1.ListOptions{}))(w)
	freed := 0
	for _, v := range list.Items {
		if !strings.HasPrefix(v.Name, "race-") || freed == volumes/2 {
			continue
		}
		freed++
		if err := w.kube.CoreV1().PersistentVolumeClaims(ns).Delete(w.Context(), v.Spec.ClaimRef.Name, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.phases(ns, "", "", v.Name, corev1.VolumeReleased)
		must(w.kube.CoreV1().PersistentVolumes().Patch(w.Context(), v.Name, types.MergePatchType, []byte(`{"spec":{"claimRef":null}}`), metav1.PatchOptions{}))(w)
	}
	w.until("ten claims to be bound again", func() error {
		n, err := w.wedded(ns, "race-")
		if err != nil {
			w.Error(err)
		}
		if n != volumes {
			return fmt.Errorf("%d are bound", n)
		}
		return nil
	})
}

// wedded counts bound claims and says whether any volume has two claims, or any claim two volumes.
func (w *world) wedded(ns, prefix string) (int, error) {
	w.Helper()
	holder := map[string]string{}
	claims := must(w.kube.CoreV1().PersistentVolumeClaims(ns).List(w.Context(), metav1.ListOptions{}))(w)
	n := 0
	for _, c := range claims.Items {
		if c.Status.Phase == corev1.ClaimBound {
			n++
		}
		if v := c.Spec.VolumeName; v != "" {
			if other := holder[v]; other != "" {
				return n, fmt.Errorf("volume %s has the claims %s and %s", v, other, c.Name)
			}
			holder[v] = c.Name
		}
	}
	for _, v := range must(w.kube.CoreV1().PersistentVolumes().List(w.Context(), metav1.ListOptions{}))(w).Items {
		if h := holder[v.Name]; strings.HasPrefix(v.Name, prefix) && h != "" && (v.Spec.ClaimRef == nil || v.Spec.ClaimRef.Name != h) {
			return n, fmt.Errorf("claim %s has volume %s, which names %+v", h, v.Name, v.Spec.ClaimRef)
		}
	}
	return n, nil
}

// brokenOff is a binder that ended between two of its writes: the next one goes on from what it finds.
func brokenOff(w *world, ns string) {
	c := w.claim(ns, "half", "1Gi", "off")
	w.hears(ns, "half", "ProvisioningFailed", "")
	// After the first write, and, below, after the third; a volume that only looks better must not be taken in its place.
	w.volume("off-mine", "5Gi", "off", func(v *corev1.PersistentVolume) {
		v.Annotations = map[string]string{"pv.kubernetes.io/bound-by-controller": "yes"}
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: ns, Name: "half", UID: c.UID}
	})
	w.bound(ns, "half", "off-mine")
	w.claim(ns, "rest", "1Gi", "off", func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = "off-rest"
		c.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
	})
	w.volume("off-rest", "1Gi", "off", func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: ns, Name: "rest"}
	})
	w.bound(ns, "rest", "off-rest")
	// Two volumes for one claim: the one that is not its own is given back.
	c = w.claim(ns, "both", "1Gi", "off2")
	for _, name := range []string{"off-one", "off-two"} {
		w.volume(name, "1Gi", "off2", func(v *corev1.PersistentVolume) {
			v.Annotations = map[string]string{"pv.kubernetes.io/bound-by-controller": "yes"}
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: ns, Name: "both", UID: c.UID}
		})
	}
	w.phases(ns, "both", corev1.ClaimBound, "", "")
	mine, other := w.getClaim(ns, "both").Spec.VolumeName, "off-two"
	if mine == "off-two" {
		other = "off-one"
	}
	w.bound(ns, "both", mine)
	w.phases(ns, "", "", other, corev1.VolumeAvailable)
	if ref := w.getVolume(other).Spec.ClaimRef; ref != nil {
		w.Errorf("%s still names %+v", other, ref)
	}
}

func expand(w *world, ns string) {
	c := w.claim(ns, "ours", "1Gi", "local", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "ex-ours" })
	w.volume("ex-ours", "1Gi", "local", madeFor(c, "pilothouse.dev/local-path"), func(v *corev1.PersistentVolume) {
		v.Spec.HostPath, v.Spec.Local = nil, &corev1.LocalVolumeSource{Path: "/tmp/ex-ours"}
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"steady"}}}}}}}
	})
	w.bound(ns, "ours", "ex-ours")
	grow := func(name string) {
		must(w.kube.CoreV1().PersistentVolumeClaims(ns).Patch(w.Context(), name, types.MergePatchType, []byte(`{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}`), metav1.PatchOptions{}))(w)
	}
	grow("ours")
	w.until("claim and volume to grow", func() error {
		if a, b := w.getClaim(ns, "ours").Status.Capacity.Storage().String(), w.getVolume("ex-ours").Spec.Capacity.Storage().String(); a != "3Gi" || b != "3Gi" {
			return fmt.Errorf("claim %s, volume %s", a, b)
		}
		return nil
	})
	w.hears(ns, "ours", "VolumeResizeSuccessful", "ExpandVolume succeeded for volume "+ns+"/ours")
	c = w.claim(ns, "driver", "1Gi", "immediate")
	w.volume("ex-driver", "1Gi", "immediate", madeFor(c, "example.com/disk"), func(v *corev1.PersistentVolume) {
		v.Spec.HostPath, v.Spec.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: "disk.example.com", VolumeHandle: "h"}
	})
	w.bound(ns, "driver", "ex-driver")
	grow("driver")
	w.hears(ns, "driver", "ExternalExpanding", "waiting for an external controller to expand this PVC")
	if got := w.getClaim(ns, "driver").Status.Capacity.Storage().String(); got != "1Gi" {
		w.Errorf("the driver's claim has %s", got)
	}
}

func ephemeralVolumes(w *world, ns string) {
	w.player.script("none/ephemeral", func(context.Context, *corev1.Pod) {}) // it never gets ready, and need not
	class := "eph"
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "none/ephemeral"}}
		p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
			VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": name}},
				Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}}},
			}}}}}
		return must(w.kube.CoreV1().Pods(ns).Create(w.Context(), p, metav1.CreateOptions{}))(w)
	}
	mine := func(p *corev1.Pod) func() error {
		return func() error {
			c, err := w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), p.Name+"-scratch", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !metav1.IsControlledBy(c, p) || c.Labels["of"] != p.Name {
				return fmt.Errorf("%+v", c.ObjectMeta)
			}
			return nil
		}
	}
	p := pod("p")
	w.until("the claim of the pod", mine(p))
	w.claim(ns, "q-scratch", "1Gi", class)
	q := pod("q")
	w.hears(ns, "q", "FailedBinding", fmt.Sprintf("ephemeral volume scratch: PVC %s/q-scratch was not created for pod %s/q (pod is not owner)", ns, ns))
	if err := w.kube.CoreV1().PersistentVolumeClaims(ns).Delete(w.Context(), "q-scratch", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("its own claim, when the foreign one is gone", mine(q))
	if err := w.kube.CoreV1().Pods(ns).Delete(w.Context(), "p", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the claim to go with its pod", func() error {
		_, err := w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "p-scratch", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
}
