package plugins

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/admission"
)

// defaultStorageClass gives claims that name no class the default one
// (https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass).
type defaultStorageClass struct{ classes StorageClasses }

func (*defaultStorageClass) Name() string { return "DefaultStorageClass" }

func (p *defaultStorageClass) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "persistentvolumeclaims") {
		return nil
	}
	claim := a.Object.(*corev1.PersistentVolumeClaim)
	if _, named := claim.Annotations[corev1.BetaStorageClassAnnotation]; named || claim.Spec.StorageClassName != nil {
		return nil
	}
	all, err := p.classes.StorageClasses(ctx)
	if err != nil {
		return err
	}
	if class := newestDefault(all, "storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"); class != nil {
		claim.Spec.StorageClassName = &class.Name
	}
	return nil
}

// newestDefault is the newest class that one of the annotations marks as the default, nil when there is none.
func newestDefault[T any, P interface {
	*T
	metav1.Object
}](all []*T, marks ...string) *T {
	defaults := slices.DeleteFunc(slices.Clone(all), func(c *T) bool {
		return !slices.ContainsFunc(marks, func(m string) bool { return P(c).GetAnnotations()[m] == "true" })
	})
	if len(defaults) == 0 {
		return nil
	}
	return slices.MinFunc(defaults, func(a, b *T) int {
		at, bt := P(a).GetCreationTimestamp(), P(b).GetCreationTimestamp()
		if c := bt.Compare(at.Time); c != 0 {
			return c
		}
		return cmp.Compare(P(a).GetName(), P(b).GetName())
	})
}
