package namespace

import (
	"context"
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// kindOf is a resource that can be emptied.
type kindOf struct {
	gvr  schema.GroupVersionResource
	bulk bool // knows deletecollection
}

// kinds are all namespaced resources that can be listed and deleted, each in its preferred version. With an error, those that
// could be found in spite of it.
func (c *controller) kinds(ctx context.Context) ([]kindOf, error) {
	lists, err := discovery.ServerPreferredNamespacedResourcesWithContext(ctx, discovery.ToDiscoveryInterfaceWithContext(c.t.Clients.Kube.Discovery()))
	var all []kindOf
	for _, list := range lists {
		gv, perr := schema.ParseGroupVersion(list.GroupVersion)
		if perr != nil {
			return all, fmt.Errorf("discovered group version %q: %w", list.GroupVersion, perr)
		}
		for _, r := range list.APIResources {
			has := func(verb string) bool { return slices.Contains(r.Verbs, verb) }
			if has("list") && has("delete") {
				all = append(all, kindOf{gv.WithResource(r.Name), has("deletecollection")})
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("discovering kinds: %w", err)
	}
	return all, err
}

// atOnce is how many kinds are emptied side by side.
const atOnce = 8

// empty deletes what is in a namespace and reports what is left: pods first, the rest only when they are gone.
func (c *controller) empty(ctx context.Context, namespace string, kinds []kindOf, r *report) {
	var rest []kindOf
	for _, k := range kinds {
		if k.gvr.Group == "" && k.gvr.Resource == "pods" {
			c.emptyKind(ctx, namespace, k, r)
		} else {
			rest = append(rest, k)
		}
	}
	if !r.empty() {
		return
	}
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for _, k := range rest {
		slots <- struct{}{}
		wg.Go(func() {
			c.emptyKind(ctx, namespace, k, r)
			<-slots
		})
	}
	wg.Wait()
}

func (c *controller) emptyKind(ctx context.Context, namespace string, k kindOf, r *report) {
	items, err := c.list(ctx, namespace, k)
	if err == nil && len(items) > 0 {
		if err = c.delete(ctx, namespace, k, items); err == nil {
			items, err = c.list(ctx, namespace, k)
		}
	}
	switch {
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err): // a kind that went, or never could
	case err != nil:
		r.failed(k.gvr.GroupResource(), err)
	}
	r.left(k.gvr.GroupResource(), items)
}

func (c *controller) list(ctx context.Context, namespace string, k kindOf) ([]metav1.PartialObjectMetadata, error) {
	var all []metav1.PartialObjectMetadata
	opts := metav1.ListOptions{Limit: 500}
	for {
		l, err := c.t.Clients.Metadata.Resource(k.gvr).Namespace(namespace).List(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("listing: %w", err)
		}
		all = append(all, l.Items...)
		if opts.Continue = l.Continue; opts.Continue == "" {
			return all, nil
		}
	}
}

// delete asks for the end of everything of a kind; owned things do not wait for their owners, all of them go.
func (c *controller) delete(ctx context.Context, namespace string, k kindOf, items []metav1.PartialObjectMetadata) error {
	client := c.t.Clients.Metadata.Resource(k.gvr).Namespace(namespace)
	background := metav1.DeletePropagationBackground
	opts := metav1.DeleteOptions{PropagationPolicy: &background}
	if k.bulk {
		if !slices.ContainsFunc(items, func(o metav1.PartialObjectMetadata) bool { return o.DeletionTimestamp == nil }) {
			return nil // all asked already: what is left waits for finalizers or a kubelet
		}
		if err := client.DeleteCollection(ctx, opts, metav1.ListOptions{}); err != nil {
			return fmt.Errorf("deleting all: %w", err)
		}
		return nil
	}
	for i := range items {
		if items[i].DeletionTimestamp != nil {
			continue
		}
		if err := client.Delete(ctx, items[i].Name, opts); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting %s: %w", items[i].Name, err)
		}
	}
	return nil
}
