package revisions

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

// ErrTaken is returned by Sync when the name of a new revision belongs to something else. The caller writes a greater collision
// count to its owner's status and comes again.
var ErrTaken = errors.New("the name of the new revision is taken")

// History reads and writes the revisions of all owners of one controller. Safe for concurrent use.
type History struct {
	t      loop.Tools
	lister appslisters.ControllerRevisionLister
	store  cache.Store
	wrote  *loop.Versions
}

// New makes a history. The controller must have "controllerrevisions.apps" among its Watches (its owner's kind is woken) or Reads.
func New(t loop.Tools) *History {
	inf := t.Informers.Apps().V1().ControllerRevisions()
	return &History{t: t, lister: inf.Lister(), store: inf.Informer().GetStore(), wrote: loop.NewVersions()}
}

// Of are the owner's revisions, sorted: those that selector selects and nobody owns are adopted, those it no longer selects are
// released. ErrStale when the cache does not show yet what this controller wrote.
func (h *History) Of(ctx context.Context, c podset.Claimer, selector labels.Selector) ([]*appsv1.ControllerRevision, error) {
	owner := c.Owner
	if !h.wrote.Seen(loop.KeyOf(owner), h.store.LastStoreSyncResourceVersion()) {
		return nil, loop.ErrStale
	}
	all, err := h.lister.ControllerRevisions(owner.GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	c.Patch = func(ctx context.Context, name string, patch []byte) error {
		got, err := h.t.Clients.Kube.AppsV1().ControllerRevisions(owner.GetNamespace()).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		if err == nil {
			h.wrote.Wrote(loop.KeyOf(owner), got.ResourceVersion)
		}
		return err
	}
	revs, err := podset.Claim(ctx, c, selector, all)
	if err != nil {
		return nil, err
	}
	Sort(revs)
	return revs, nil
}

// Sync returns the revision of the wish: found among the sorted revisions and, should it not be the last, given the next number, or
// made. The second result is the sorted revisions with it last.
func (h *History) Sync(ctx context.Context, w Wish, sorted []*appsv1.ControllerRevision) (*appsv1.ControllerRevision, []*appsv1.ControllerRevision, error) {
	want, err := Make(w)
	if err != nil {
		return nil, nil, err
	}
	next := Next(sorted)
	have := Find(sorted, want)
	switch {
	case have == nil:
		want.Revision = next
		got, err := h.create(ctx, w.Owner, want)
		if err != nil {
			return nil, nil, err
		}
		return got, append(sorted[:len(sorted):len(sorted)], got), nil
	case have.Revision == next-1:
		return have, sorted, nil
	}
	raised := have.DeepCopy()
	raised.Revision = next
	got, err := h.t.Clients.Kube.AppsV1().ControllerRevisions(have.Namespace).Update(ctx, raised, metav1.UpdateOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("numbering revision %s anew: %w", have.Name, err)
	}
	h.wrote.Wrote(loop.KeyOf(w.Owner), got.ResourceVersion)
	rest := make([]*appsv1.ControllerRevision, 0, len(sorted))
	for _, r := range sorted {
		if r != have {
			rest = append(rest, r)
		}
	}
	return got, append(rest, got), nil
}

func (h *History) create(ctx context.Context, owner metav1.Object, want *appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	revs := h.t.Clients.Kube.AppsV1().ControllerRevisions(want.Namespace)
	got, err := revs.Create(ctx, want, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		live, err := revs.Get(ctx, want.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading revision %s, whose name is taken: %w", want.Name, err)
		}
		if metav1.IsControlledBy(live, owner) && Same(live, want) {
			h.wrote.Wrote(loop.KeyOf(owner), live.ResourceVersion)
			return nil, loop.ErrStale
		}
		return nil, ErrTaken
	}
	if err != nil {
		return nil, fmt.Errorf("creating revision %s: %w", want.Name, err)
	}
	h.wrote.Wrote(loop.KeyOf(owner), got.ResourceVersion)
	return got, nil
}

// Trim deletes the oldest revisions beyond limit that are not in use.
func (h *History) Trim(ctx context.Context, sorted []*appsv1.ControllerRevision, used map[string]bool, limit int) error {
	for _, r := range Excess(sorted, used, limit) {
		err := h.t.Clients.Kube.AppsV1().ControllerRevisions(r.Namespace).Delete(ctx, r.Name, *metav1.NewPreconditionDeleteOptions(string(r.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting revision %s: %w", r.Name, err)
		}
	}
	return nil
}
