package loop

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Writer is the part of a typed client that Commit uses.
type Writer[T metav1.Object] interface {
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
}

type statusWriter[T metav1.Object] interface {
	UpdateStatus(context.Context, T, metav1.UpdateOptions) (T, error)
}

// Commit writes the difference between an object as it was read and as it should be, and returns it as it then is: nothing is
// written when there is none. Spec and metadata go one way, status another, never both in one call: they have different
// writers and different rights, so a want that changes both is refused. The write fails with a conflict when the object has
// changed since it was read.
func Commit[T metav1.Object](ctx context.Context, w Writer[T], have, want T) (T, error) {
	spec, status := difference(have, want)
	switch {
	case spec && status:
		return have, fmt.Errorf("committing %s: spec and status differ both", KeyOf(want))
	case spec:
		got, err := w.Update(ctx, want, metav1.UpdateOptions{})
		if err != nil {
			return have, fmt.Errorf("updating %s: %w", KeyOf(want), err)
		}
		return got, nil
	case status:
		sw, ok := w.(statusWriter[T])
		if !ok {
			return have, fmt.Errorf("committing %s: %T has no status", KeyOf(want), want)
		}
		got, err := sw.UpdateStatus(ctx, want, metav1.UpdateOptions{})
		if err != nil {
			return have, fmt.Errorf("updating the status of %s: %w", KeyOf(want), err)
		}
		return got, nil
	}
	return have, nil
}

// difference says whether anything but the status differs, and whether the status does.
func difference(have, want any) (spec, status bool) {
	a, b := reflect.ValueOf(have).Elem(), reflect.ValueOf(want).Elem()
	for i := range a.NumField() {
		if equality.Semantic.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			continue
		}
		if a.Type().Field(i).Name == "Status" {
			status = true
		} else {
			spec = true
		}
	}
	return spec, status
}

// ErrStale is returned by a Reconcile that met a cache which has not yet seen its own writes.
var ErrStale = errors.New("the cache has not yet seen what was written")

// passing says whether an error goes away by looking again: somebody else was faster, or the cache is behind.
func passing(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || errors.Is(err, ErrStale)
}
