package lookup

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/storage"
)

// Revision is of the last change of an object of a core kind, which resource names by its plural. Nothing is decoded.
func (l *Lookup) Revision(ctx context.Context, resource, namespace, name string) (int64, error) {
	e, err := l.entry(ctx, resource, storage.Key{Namespace: namespace, Name: name})
	if err != nil {
		return 0, err
	}
	return e.Revision, nil
}

// SecretAtHand reads a secret as the cache has it, and does not ask further: for what anybody may make us look for.
func (l *Lookup) SecretAtHand(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return read[*corev1.Secret](ctx, l, core("secrets"), storage.Key{Namespace: namespace, Name: name}, storage.Cached)
}

// Meta reads the metadata of an object of a core kind, and nothing else of it.
func (l *Lookup) Meta(ctx context.Context, resource, namespace, name string) (*metav1.ObjectMeta, error) {
	key := storage.Key{Namespace: namespace, Name: name}
	e, err := l.entry(ctx, resource, key)
	if err != nil {
		return nil, err
	}
	b, err := codec.Metadata(e.Value)
	if err != nil {
		return nil, fmt.Errorf("looking up %s %s: %w", resource, key, err)
	}
	m := &metav1.ObjectMeta{}
	if err := m.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("looking up %s %s: %w", resource, key, err)
	}
	return m, nil
}

// entry is read as get reads.
func (l *Lookup) entry(ctx context.Context, resource string, key storage.Key) (*storage.Entry, error) {
	gvr := core(resource)
	r := l.reg.Find(gvr)
	if r == nil {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), key.Name)
	}
	e, err := r.Store.Get(ctx, key, storage.Cached)
	if errors.Is(err, storage.ErrNotFound) {
		e, err = r.Store.Get(ctx, key, storage.Read{})
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, apierrors.NewNotFound(gvr.GroupResource(), key.Name)
	case err != nil:
		return nil, fmt.Errorf("looking up %s %s: %w", resource, key, err)
	}
	return e, nil
}
