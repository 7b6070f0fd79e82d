package podset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Sorted are objects by what their owner should do with them; what it has nothing to do with is in none.
type Sorted[T metav1.Object] struct {
	Keep    []T // ours, and selected
	Adopt   []T // nobody's, and selected
	Release []T // ours, and no longer selected
}

// Sort looks at objects of the owner's namespace. An owner that is being deleted keeps what it has and changes nothing.
func Sort[T metav1.Object](owner metav1.Object, selector labels.Selector, objs []T) (s Sorted[T]) {
	going := owner.GetDeletionTimestamp() != nil
	for _, o := range objs {
		ref := metav1.GetControllerOfNoCopy(o)
		match := selector.Matches(labels.Set(o.GetLabels()))
		switch {
		case ref != nil && ref.UID != owner.GetUID():
		case ref != nil && match:
			s.Keep = append(s.Keep, o)
		case ref != nil && !going:
			s.Release = append(s.Release, o)
		case ref == nil && match && !going && o.GetDeletionTimestamp() == nil:
			s.Adopt = append(s.Adopt, o)
		}
	}
	return s
}

// Claimer applies what Sort decides.
type Claimer struct {
	Owner metav1.Object
	Kind  schema.GroupVersionKind // of the owner
	// Live reads the owner from the API server.
	Live func(ctx context.Context) (metav1.Object, error)
	// Patch sends a strategic merge patch to the object of this name in the owner's namespace.
	Patch func(ctx context.Context, name string, patch []byte) error
	// Metadata, if set, is what else of an object's metadata adopting, or releasing, changes in the same patch.
	Metadata func(o metav1.Object, adopting bool) map[string]any
}

// Claim adopts and releases, and returns what is the owner's after that.
func Claim[T metav1.Object](ctx context.Context, c Claimer, selector labels.Selector, objs []T) ([]T, error) {
	s := Sort(c.Owner, selector, objs)
	var errs []error
	for _, o := range s.Release {
		if err := c.release(ctx, o); err != nil {
			errs = append(errs, fmt.Errorf("releasing %s: %w", o.GetName(), err))
		}
	}
	mine := s.Keep
	if len(s.Adopt) > 0 {
		if err := c.mayAdopt(ctx); err != nil {
			return mine, errors.Join(append(errs, err)...)
		}
	}
	for _, o := range s.Adopt {
		switch err := c.adopt(ctx, o); {
		case err == nil:
			mine = append(mine, o)
		case apierrors.IsNotFound(err): // gone meanwhile
		default:
			errs = append(errs, fmt.Errorf("adopting %s: %w", o.GetName(), err))
		}
	}
	return mine, errors.Join(errs...)
}

// mayAdopt reads the owner live: the cache may not know yet that it is going, or that it is another of the same name.
func (c Claimer) mayAdopt(ctx context.Context) error {
	live, err := c.Live(ctx)
	if err != nil {
		return fmt.Errorf("reading %s before adopting: %w", c.Owner.GetName(), err)
	}
	if live.GetUID() != c.Owner.GetUID() {
		return fmt.Errorf("adopting for %s: it was deleted and made again", c.Owner.GetName())
	}
	if live.GetDeletionTimestamp() != nil {
		return fmt.Errorf("adopting for %s: it is being deleted", c.Owner.GetName())
	}
	return nil
}

func (c Claimer) adopt(ctx context.Context, o metav1.Object) error {
	patch, err := c.refPatch(o, true, *metav1.NewControllerRef(c.Owner, c.Kind))
	if err != nil {
		return err
	}
	return c.Patch(ctx, o.GetName(), patch)
}

func (c Claimer) release(ctx context.Context, o metav1.Object) error {
	patch, err := c.refPatch(o, false, map[string]any{"$patch": "delete", "uid": c.Owner.GetUID()})
	if err != nil {
		return err
	}
	err = c.Patch(ctx, o.GetName(), patch)
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) { // gone, or another of that name: nothing of ours is left there
		return nil
	}
	return err
}

// refPatch is a strategic merge patch of one owner reference; the uid makes it fail on another object of the same name.
func (c Claimer) refPatch(o metav1.Object, adopting bool, ref any) ([]byte, error) {
	meta := map[string]any{"uid": o.GetUID(), "ownerReferences": []any{ref}}
	if c.Metadata != nil {
		maps.Copy(meta, c.Metadata(o, adopting))
	}
	return json.Marshal(map[string]any{"metadata": meta})
}
