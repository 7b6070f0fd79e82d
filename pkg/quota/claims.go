package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ofClass stands between the name of a storage class and what is limited in it.
const ofClass = ".storageclass.storage.k8s.io/"

func coversClaims(name corev1.ResourceName) bool {
	if name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage {
		return true
	}
	return strings.HasSuffix(string(name), ofClass+string(corev1.ResourcePersistentVolumeClaims)) ||
		strings.HasSuffix(string(name), ofClass+string(corev1.ResourceRequestsStorage))
}

func claimUsage(o metav1.Object, _ time.Time, list corev1.ResourceList) {
	c := o.(*corev1.PersistentVolumeClaim)
	class := classOf(c)
	set := func(name corev1.ResourceName, q resource.Quantity) {
		list[name] = q
		if class != "" {
			list[corev1.ResourceName(class+ofClass)+name] = q
		}
	}
	set(corev1.ResourcePersistentVolumeClaims, one())
	asked, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return
	}
	// While a claim shrinks back from a growth that failed, it holds what was allocated.
	if held, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && held.Cmp(asked) > 0 {
		asked = held
	}
	asked = asked.DeepCopy()
	asked.RoundUp(0) // whole bytes
	set(corev1.ResourceRequestsStorage, asked)
}

// classOf is the name of a claim's storage class; the annotation is older than the field and goes before it.
func classOf(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

// claimChanges: the spec's requests and class may change, and in the status what is allocated and which class is in force.
func claimChanges(subresource string, o, old metav1.Object) bool {
	switch subresource {
	case "":
		return true
	case "status":
		now, was := o.(*corev1.PersistentVolumeClaim), old.(*corev1.PersistentVolumeClaim)
		return now.Status.AllocatedResources.Storage().Cmp(*was.Status.AllocatedResources.Storage()) != 0 ||
			!slices.Equal(attributeClasses(now), attributeClasses(was))
	}
	return false
}

func claimInScope(r corev1.ScopedResourceSelectorRequirement, o metav1.Object) bool {
	return r.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass && selects(r, attributeClasses(o.(*corev1.PersistentVolumeClaim))...)
}

// attributeClasses are the classes of volume attributes that a claim has, wants or is on its way to.
func attributeClasses(c *corev1.PersistentVolumeClaim) []string {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if n := c.Spec.VolumeAttributesClassName; n != nil {
		add(*n)
	}
	if n := c.Status.CurrentVolumeAttributesClassName; n != nil {
		add(*n)
	}
	if m := c.Status.ModifyVolumeStatus; m != nil {
		add(m.TargetVolumeAttributesClassName)
	}
	slices.Sort(names)
	return names
}
