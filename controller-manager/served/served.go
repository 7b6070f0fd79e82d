// Package served finds the resources that the API serves now, custom and aggregated ones among them, in all versions of their group.
// It is called by controllers that meet kinds which only a user names: what an autoscaler scales, what is to be migrated. Nothing is
// kept: callers that ask often remember the answer.
package served

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
)

// Resource is a resource as discovered, in one version. Subresources have names with a slash.
type Resource struct {
	schema.GroupVersionResource
	Kind  string
	Verbs []string
}

// Find are the resources of a group that match, in its preferred version first. None, and no error, when the group is not served or
// has none.
func Find(ctx context.Context, kube kubernetes.Interface, group string, match func(*metav1.APIResource) bool) ([]Resource, error) {
	versions, err := Versions(ctx, kube, group)
	if err != nil {
		return nil, err
	}
	server := discovery.ToDiscoveryInterfaceWithContext(kube.Discovery())
	var found []Resource
	for _, v := range versions {
		gv := schema.GroupVersion{Group: group, Version: v}
		list, err := server.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
		if apierrors.IsNotFound(err) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("discovering what %s serves: %w", gv, err)
		}
		for i := range list.APIResources {
			if r := &list.APIResources[i]; match(r) {
				found = append(found, Resource{gv.WithResource(r.Name), r.Kind, r.Verbs})
			}
		}
	}
	return found, nil
}

// Versions are those of a group, the preferred one first; none when there is no such group.
func Versions(ctx context.Context, kube kubernetes.Interface, group string) ([]string, error) {
	if group == "" {
		return []string{"v1"}, nil
	}
	body, err := kube.Discovery().RESTClient().Get().AbsPath("/apis", group).SetHeader("Accept", runtime.ContentTypeJSON).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	var g metav1.APIGroup
	if err == nil {
		err = json.Unmarshal(body, &g)
	}
	if err != nil {
		return nil, fmt.Errorf("discovering the versions of %s: %w", group, err)
	}
	var out []string
	for _, v := range g.Versions {
		if v.Version == g.PreferredVersion.Version {
			out = slices.Insert(out, 0, v.Version)
		} else {
			out = append(out, v.Version)
		}
	}
	return out, nil
}
