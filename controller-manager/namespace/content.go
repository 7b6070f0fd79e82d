package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// hidden are API groups that are served by somebody who does not answer: aggregated ones, whose server is away.
type hidden map[schema.GroupVersion]error

// kinds are all namespaced resources that can be listed and deleted, each in its preferred version, and the groups of which nobody
// can say now what they have. A group of which it is known that it keeps nothing that could be deleted, as that of metrics, is not
// among those. An error: nothing could be found out.
func (c *controller) kinds(ctx context.Context) ([]kindOf, hidden, error) {
	lists, err := discovery.ServerPreferredNamespacedResourcesWithContext(ctx, discovery.ToDiscoveryInterfaceWithContext(c.t.Clients.Kube.Discovery()))
	var partly *discovery.ErrGroupDiscoveryFailed
	if err != nil && !errors.As(err, &partly) {
		return nil, nil, fmt.Errorf("discovering kinds: %w", err)
	}
	var all []kindOf
	seen := map[schema.GroupVersion]bool{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, nil, fmt.Errorf("discovered group version %q: %w", list.GroupVersion, err)
		}
		seen[gv] = false
		for _, r := range list.APIResources {
			has := func(verb string) bool { return slices.Contains(r.Verbs, verb) }
			if has("list") && has("delete") {
				all = append(all, kindOf{gv.WithResource(r.Name), has("deletecollection")})
				seen[gv] = true
			}
		}
	}
	unseen := hidden{}
	if partly != nil {
		maps.Copy(unseen, partly.Groups)
	}
	c.learn(seen, unseen)
	return all, unseen, nil
}

// learn notes which groups keep what could be deleted, and takes those out of unseen that are known to keep nothing.
func (c *controller) learn(seen map[schema.GroupVersion]bool, unseen hidden) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.fertile, seen)
	for gv := range unseen {
		if fertile, known := c.fertile[gv]; known && !fertile {
			delete(unseen, gv)
		}
	}
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
	var first error // one that cannot be deleted keeps none of the others
	for i := range items {
		if items[i].DeletionTimestamp != nil {
			continue
		}
		err := client.Delete(ctx, items[i].Name, opts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !apierrors.IsNotFound(err) && first == nil {
			first = fmt.Errorf("deleting %s: %w", items[i].Name, err)
		}
	}
	return first
}
