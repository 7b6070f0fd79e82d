package handlers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/version"
)

// Version answers /version.
func Version(w http.ResponseWriter, r *http.Request) {
	writeJSONValue(w, r, version.Info())
}

func writeJSONValue(w http.ResponseWriter, r *http.Request, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		b, err = codec.Finish(b, codec.Accepted{Media: codec.JSON, Pretty: true})
	}
	if err != nil {
		WriteError(w, r, err)
		return
	}
	writeBody(w, codec.Accepted{Media: codec.JSON}, http.StatusOK, b)
}

// Groups answers /apis (core false) and /api (core true), plain or aggregated
// (https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery).
func (h *Handlers) Groups(core bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if wantsAggregated(r) {
			h.aggregated(w, r, core)
			return
		}
		if core {
			h.document(w, r, &metav1.APIVersions{
				Versions: []string{"v1"}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
			}, "APIVersions")
			return
		}
		list := &metav1.APIGroupList{Groups: []metav1.APIGroup{}}
		for _, gv := range h.reg.Groups() {
			if gv.Group == "" {
				continue
			}
			if i := slices.IndexFunc(list.Groups, func(g metav1.APIGroup) bool { return g.Name == gv.Group }); i >= 0 {
				list.Groups[i].Versions = append(list.Groups[i].Versions, versionOf(gv))
				continue
			}
			list.Groups = append(list.Groups, metav1.APIGroup{
				Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{versionOf(gv)}, PreferredVersion: versionOf(gv),
			})
		}
		h.document(w, r, list, "APIGroupList")
	}
}

func versionOf(gv schema.GroupVersion) metav1.GroupVersionForDiscovery {
	return metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
}

// Group answers /apis/GROUP.
func (h *Handlers) Group(w http.ResponseWriter, r *http.Request, group string) {
	g := &metav1.APIGroup{Name: group}
	for _, gv := range h.reg.Groups() {
		if gv.Group == group && group != "" {
			g.Versions = append(g.Versions, versionOf(gv))
		}
	}
	if len(g.Versions) == 0 {
		NotFound(w, r)
		return
	}
	g.PreferredVersion = g.Versions[0]
	h.document(w, r, g, "APIGroup")
}

// GroupVersion answers /api/v1 and /apis/GROUP/VERSION.
func (h *Handlers) GroupVersion(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion) {
	list := &metav1.APIResourceList{GroupVersion: gv.String(), APIResources: []metav1.APIResource{}}
	for _, res := range h.reg.All() {
		if res.GVK.GroupVersion() != gv {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: res.Plural, SingularName: res.Singular, Namespaced: res.Namespaced, Kind: res.GVK.Kind,
			Verbs: res.Verbs, ShortNames: res.Short, Categories: res.Categories,
		})
		for _, s := range subresources(res) {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: res.Plural + "/" + s.name, Namespaced: res.Namespaced, Kind: s.kind.Kind, Verbs: s.verbs,
				Group: groupIfOther(s.kind, gv), Version: versionIfOther(s.kind, gv),
			})
		}
	}
	if len(list.APIResources) == 0 {
		NotFound(w, r)
		return
	}
	h.document(w, r, list, "APIResourceList")
}

type sub struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

// subresources of a resource, by name.
func subresources(res *registry.Resource) []sub {
	var out []sub
	if res.HasStatus {
		out = append(out, sub{"status", res.GVK, []string{"get", "patch", "update"}})
	}
	if res.ScaleGet != nil {
		out = append(out, sub{"scale", scaleKind, []string{"get", "patch", "update"}})
	}
	for _, p := range res.Parts {
		out = append(out, sub{p.Name, res.GVK, []string{"get", "patch", "update"}})
	}
	for name, a := range res.Actions {
		if name == "" { // what a virtual kind itself does
			continue
		}
		out = append(out, sub{name, a.Kind, a.Verbs})
	}
	slices.SortFunc(out, func(a, b sub) int { return strings.Compare(a.name, b.name) })
	return out
}

func groupIfOther(k schema.GroupVersionKind, gv schema.GroupVersion) string {
	if k.GroupVersion() == gv {
		return ""
	}
	return k.Group
}

func versionIfOther(k schema.GroupVersionKind, gv schema.GroupVersion) string {
	if k.GroupVersion() == gv {
		return ""
	}
	return k.Version
}

// document writes a discovery document (a v1 kind of metav1).
func (h *Handlers) document(w http.ResponseWriter, r *http.Request, doc runtime.Object, kind string) {
	a, ok := codec.Negotiate(r, false)
	if !ok {
		WriteError(w, r, notAcceptable(codec.Media...))
		return
	}
	b, err := codec.Encode(doc, schema.GroupVersionKind{Version: "v1", Kind: kind}, a)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	writeBody(w, a, http.StatusOK, b)
}

const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

func wantsAggregated(r *http.Request) bool {
	for clause := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		media, p, err := mime.ParseMediaType(clause)
		if err == nil && media == codec.JSON && p["as"] == "APIGroupDiscoveryList" && p["g"] == "apidiscovery.k8s.io" && p["v"] == "v2" {
			return true
		}
	}
	return false
}

func (h *Handlers) aggregated(w http.ResponseWriter, r *http.Request, core bool) {
	list := &apidiscovery.APIGroupDiscoveryList{Items: []apidiscovery.APIGroupDiscovery{}}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "apidiscovery.k8s.io", Version: "v2", Kind: "APIGroupDiscoveryList"})
	for _, gv := range h.reg.Groups() {
		if (gv.Group == "") != core {
			continue
		}
		v := apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}
		for _, res := range h.reg.All() {
			if res.GVK.GroupVersion() == gv {
				v.Resources = append(v.Resources, resourceDiscovery(res))
			}
		}
		n := len(list.Items)
		if n == 0 || list.Items[n-1].Name != gv.Group {
			list.Items = append(list.Items, apidiscovery.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: gv.Group}})
			n++
		}
		list.Items[n-1].Versions = append(list.Items[n-1].Versions, v)
	}
	b, err := json.Marshal(list)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	sum := sha256.Sum256(b)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", "public")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", aggregatedType)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b)
}

func resourceDiscovery(res *registry.Resource) apidiscovery.APIResourceDiscovery {
	scope := apidiscovery.ScopeCluster
	if res.Namespaced {
		scope = apidiscovery.ScopeNamespace
	}
	d := apidiscovery.APIResourceDiscovery{
		Resource: res.Plural, SingularResource: res.Singular, Scope: scope, Verbs: res.Verbs,
		ShortNames: res.Short, Categories: res.Categories, ResponseKind: kindRef(res.GVK),
	}
	for _, s := range subresources(res) {
		d.Subresources = append(d.Subresources, apidiscovery.APISubresourceDiscovery{
			Subresource: s.name, ResponseKind: kindRef(s.kind), Verbs: s.verbs,
		})
	}
	return d
}

func kindRef(k schema.GroupVersionKind) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}
