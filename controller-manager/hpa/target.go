package hpa

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/controller-manager/served"
	"pilothouse.dev/pkg/client"
)

// targets find what autoscalers point at, of any kind that has the subresource scale. Which resource a kind is, discovery says; it is
// asked again when something was not found by what it said before. Safe for concurrent use.
type targets struct {
	clients *client.Clients

	mu    sync.Mutex
	known map[schema.GroupKind][]schema.GroupVersionResource // guarded by mu; never empty
}

func newTargets(c *client.Clients) *targets {
	return &targets{clients: c, known: map[schema.GroupKind][]schema.GroupVersionResource{}}
}

// target is a scale as it was read.
type target struct {
	resource schema.GroupVersionResource
	object   *unstructured.Unstructured
	scale    scale
}

// scale is what a decision needs of one.
type scale struct {
	spec, status int32 // replicas: wanted, and there
	selector     string
}

// badReference is what the spec of an autoscaler itself is to blame for.
type badReference struct{ error }

// find reads the scale of what an autoscaler points at.
func (t *targets) find(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler) (target, error) {
	ref := hpa.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return target{}, badReference{err}
	}
	resources, err := t.resources(ctx, gv, ref.Kind)
	if err != nil {
		return target{}, err
	}
	var first error
	for _, r := range resources {
		got, err := t.read(ctx, r, hpa.Namespace, ref.Name)
		if err == nil {
			return got, nil
		}
		if first == nil {
			first = err
		}
	}
	if apierrors.IsNotFound(first) { // the kind may be served otherwise now
		t.mu.Lock()
		delete(t.known, gv.WithKind(ref.Kind).GroupKind())
		t.mu.Unlock()
	}
	return target{}, first
}

func (t *targets) read(ctx context.Context, r schema.GroupVersionResource, namespace, name string) (target, error) {
	o, err := t.clients.Dynamic.Resource(r).Namespace(namespace).Get(ctx, name, metav1.GetOptions{}, "scale")
	if err != nil {
		return target{}, err
	}
	var s autoscalingv1.Scale
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s); err != nil {
		return target{}, fmt.Errorf("reading the scale of %s %s: %w", r.Resource, name, err)
	}
	return target{r, o, scale{s.Spec.Replicas, s.Status.Replicas, s.Status.Selector}}, nil
}

// set writes the number of replicas. A target that changed since it was read, as one does that is rolled out, gets it all the same as
// long as it wants as many as it did; else it is a conflict.
func (t *targets) set(ctx context.Context, was target, replicas int32) error {
	const tries = 5
	client := t.clients.Dynamic.Resource(was.resource).Namespace(was.object.GetNamespace())
	now := was
	for try := 1; ; try++ {
		o := now.object.DeepCopy()
		if err := unstructured.SetNestedField(o.Object, int64(replicas), "spec", "replicas"); err != nil {
			return fmt.Errorf("writing the scale of %s: %w", o.GetName(), err)
		}
		_, err := client.Update(ctx, o, metav1.UpdateOptions{}, "scale")
		if !apierrors.IsConflict(err) || try == tries {
			return err
		}
		fresh, rerr := t.read(ctx, was.resource, o.GetNamespace(), o.GetName())
		if rerr != nil {
			return rerr
		}
		if fresh.scale.spec != was.scale.spec || fresh.object.GetUID() != was.object.GetUID() {
			return err
		}
		now = fresh
	}
}

// resource is the name that metrics have for a kind: "services", "ingresses.networking.k8s.io".
func (t *targets) resource(ctx context.Context, apiVersion, kind string) (string, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return "", err
	}
	all, err := t.resources(ctx, gv, kind)
	if err != nil {
		return "", fmt.Errorf("unable to map kind %s to resource: %w", gv.WithKind(kind).GroupKind(), err)
	}
	return all[0].GroupResource().String(), nil
}

// resources are those of a kind in all versions of its group, that of the reference first. An error says that there is none.
func (t *targets) resources(ctx context.Context, gv schema.GroupVersion, kind string) ([]schema.GroupVersionResource, error) {
	gk := gv.WithKind(kind).GroupKind()
	t.mu.Lock()
	known := t.known[gk]
	t.mu.Unlock()
	if known == nil {
		var err error
		if known, err = t.discover(ctx, gk); err != nil {
			return nil, err
		}
		t.mu.Lock()
		t.known[gk] = known
		t.mu.Unlock()
	}
	sorted := slices.Clone(known)
	slices.SortStableFunc(sorted, func(a, b schema.GroupVersionResource) int {
		switch {
		case a.Version == b.Version:
			return 0
		case a.Version == gv.Version:
			return -1
		case b.Version == gv.Version:
			return 1
		}
		return 0
	})
	return sorted, nil
}

func (t *targets) discover(ctx context.Context, gk schema.GroupKind) ([]schema.GroupVersionResource, error) {
	all, err := served.Find(ctx, t.clients.Kube, gk.Group, func(r *metav1.APIResource) bool { return r.Kind == gk.Kind && !strings.Contains(r.Name, "/") })
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, &meta.NoKindMatchError{GroupKind: gk}
	}
	var found []schema.GroupVersionResource
	for _, r := range all {
		found = append(found, r.GroupVersionResource)
	}
	return found, nil
}
