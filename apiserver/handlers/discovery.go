package handlers

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiversion "k8s.io/apimachinery/pkg/version"

	"pilothouse.dev/apiserver/registry"
)

// groupOrder is the order in which discovery names groups; those it does not know (of custom resources) come after, by name.
// Clients look a kind up in the first group that has it.
var groupOrder = []string{
	"", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch",
	"certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "storage.k8s.io", "admissionregistration.k8s.io",
	"apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io", "discovery.k8s.io", "resource.k8s.io",
	"flowcontrol.apiserver.k8s.io", "storagemigration.k8s.io",
}

// groupVersions are the group versions served: in the order of groups, and of a group's versions the most mature and newest
// first, which is the one that clients prefer.
func groupVersions(all []*registry.Resource) []schema.GroupVersion {
	var out []schema.GroupVersion
	for _, r := range all {
		if gv := r.GVK.GroupVersion(); !slices.Contains(out, gv) {
			out = append(out, gv)
		}
	}
	place := func(group string) int {
		if i := slices.Index(groupOrder, group); i >= 0 {
			return i
		}
		return len(groupOrder)
	}
	slices.SortFunc(out, func(a, b schema.GroupVersion) int {
		return cmp.Or(cmp.Compare(place(a.Group), place(b.Group)), strings.Compare(a.Group, b.Group),
			apiversion.CompareKubeAwareVersionStrings(b.Version, a.Version))
	})
	return out
}

// groups are the groups with their versions, without the core group, which has none of these documents.
func groups(all []*registry.Resource) []metav1.APIGroup {
	out := []metav1.APIGroup{}
	for _, gv := range groupVersions(all) {
		if gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		if n := len(out); n == 0 || out[n-1].Name != gv.Group {
			out = append(out, metav1.APIGroup{Name: gv.Group, PreferredVersion: v})
		}
		last := &out[len(out)-1]
		last.Versions = append(last.Versions, v)
	}
	return out
}

// served are the resources of a group version, by name.
func served(all []*registry.Resource, gv schema.GroupVersion) []*registry.Resource {
	var out []*registry.Resource
	for _, r := range all {
		if r.GVK.GroupVersion() == gv {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b *registry.Resource) int { return strings.Compare(a.Plural, b.Plural) })
	return out
}

// resourceList is what a group version serves; nil when it serves nothing.
func resourceList(all []*registry.Resource, gv schema.GroupVersion) *metav1.APIResourceList {
	list := &metav1.APIResourceList{GroupVersion: gv.String(), APIResources: []metav1.APIResource{}}
	for _, r := range served(all, gv) {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: r.Plural, SingularName: r.Singular, Namespaced: r.Namespaced, Kind: r.GVK.Kind, Verbs: sorted(r.Verbs),
			ShortNames: r.Short, Categories: r.Categories, StorageVersionHash: storageHash(r),
		})
		for _, s := range subresources(r) {
			d := metav1.APIResource{Name: r.Plural + "/" + s.name, Namespaced: r.Namespaced, Kind: s.kind.Kind, Verbs: s.verbs}
			if s.kind.GroupVersion() != gv {
				d.Group, d.Version = s.kind.Group, s.kind.Version
			}
			list.APIResources = append(list.APIResources, d)
		}
	}
	if len(list.APIResources) == 0 {
		return nil
	}
	return list
}

// storageHash names the version in which objects are stored, so that clients see when it changes.
func storageHash(r *registry.Resource) string {
	if r.Virtual {
		return ""
	}
	k := r.Hub.GVK
	sum := sha256.Sum256([]byte(k.Group + "/" + k.Version + "/" + k.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

type sub struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

// subresources of a resource, by name.
func subresources(res *registry.Resource) []sub {
	three := []string{"get", "patch", "update"}
	var out []sub
	if res.HasStatus {
		out = append(out, sub{"status", res.GVK, three})
	}
	if res.ScaleGet != nil {
		out = append(out, sub{"scale", scaleKind, three})
	}
	for _, p := range res.Parts {
		out = append(out, sub{p.Name, res.GVK, three})
	}
	for name, a := range res.Actions {
		if name != "" { // what a virtual kind itself does
			out = append(out, sub{name, a.Kind, sorted(a.Verbs)})
		}
	}
	slices.SortFunc(out, func(a, b sub) int { return strings.Compare(a.name, b.name) })
	return out
}

func sorted(verbs []string) []string { return slices.Sorted(slices.Values(verbs)) }

// aggregate is everything at once: of the core group, or of all others.
func aggregate(all []*registry.Resource, core bool) *apidiscovery.APIGroupDiscoveryList {
	list := &apidiscovery.APIGroupDiscoveryList{Items: []apidiscovery.APIGroupDiscovery{}}
	for _, gv := range groupVersions(all) {
		if (gv.Group == "") != core {
			continue
		}
		v := apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}
		for _, r := range served(all, gv) {
			v.Resources = append(v.Resources, resourceDiscovery(r))
		}
		if n := len(list.Items); n == 0 || list.Items[n-1].Name != gv.Group {
			list.Items = append(list.Items, apidiscovery.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: gv.Group}})
		}
		last := &list.Items[len(list.Items)-1]
		last.Versions = append(last.Versions, v)
	}
	return list
}

func resourceDiscovery(r *registry.Resource) apidiscovery.APIResourceDiscovery {
	scope := apidiscovery.ScopeCluster
	if r.Namespaced {
		scope = apidiscovery.ScopeNamespace
	}
	d := apidiscovery.APIResourceDiscovery{
		Resource: r.Plural, SingularResource: r.Singular, Scope: scope, Verbs: sorted(r.Verbs),
		ShortNames: r.Short, Categories: r.Categories, ResponseKind: kindRef(r.GVK),
	}
	for _, s := range subresources(r) {
		d.Subresources = append(d.Subresources, apidiscovery.APISubresourceDiscovery{
			Subresource: s.name, ResponseKind: kindRef(s.kind), Verbs: s.verbs,
		})
	}
	return d
}

func kindRef(k schema.GroupVersionKind) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}
