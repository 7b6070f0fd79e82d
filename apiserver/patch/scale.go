package patch

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// ApplyScale merges an applied Scale into live, the Scale of an object with the given owners, and returns the new Scale and the
// object's new owners: who owns a Scale's spec.replicas owns the object's. versions are those the object is served in; w speaks
// one of them. Errors are those of Apply.
func (o *Owners) ApplyScale(live *autoscalingv1.Scale, owners []metav1.ManagedFieldsEntry, config map[string]any, versions []string,
	w Writer, force bool) (*autoscalingv1.Scale, []metav1.ManagedFieldsEntry, error) {
	if w.Manager == "" {
		w.Manager = unknownManager
	}
	gv, err := schema.ParseGroupVersion(w.APIVersion)
	if err != nil {
		return nil, nil, err
	}
	paths := managedfields.ResourcePathMappings{}
	for _, v := range versions {
		paths[v] = fieldpath.MakePathOrDie("spec", "replicas")
	}
	object := managedfields.NewScaleHandler(owners, gv, paths)
	live = live.DeepCopy()
	if live.ManagedFields, err = object.ToSubresource(); err != nil {
		return nil, nil, fmt.Errorf("reading who owns the scale: %w", err)
	}
	kind := Kind{
		GVK: autoscalingv1.SchemeGroupVersion.WithKind("Scale"),
		New: func() Object { return &autoscalingv1.Scale{} },
	}
	scale := w
	scale.APIVersion, scale.Scope, scale.Convert = kind.GVK.GroupVersion().String(), NotStatus, nil
	out, err := o.Apply(live, config, kind, scale, force)
	if err != nil {
		return nil, nil, err
	}
	now, err := object.ToParent(out.GetManagedFields())
	if err != nil {
		return nil, nil, fmt.Errorf("noting who owns the scale: %w", err)
	}
	return out.(*autoscalingv1.Scale), stamped(now, owners, w), nil
}
