package conformance

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// allVerbs are what every stored kind can do.
var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// document reads a JSON document of the server; accept may be empty.
func (r *row) document(path, accept string, into any) {
	r.Helper()
	request := r.kube.Discovery().RESTClient().Get().AbsPath(path)
	if accept != "" {
		request = request.SetHeader("Accept", accept)
	}
	raw, err := request.DoRaw(r.ctx)
	r.must(err, "getting "+path)
	r.must(json.Unmarshal(raw, into), "reading "+path)
}

// discover looks for the kind in the documents from top to bottom: the group in /apis, its version in the group's, the resource and
// its subresource status in the version's, with their verbs.
func (r *row) discover(o operations) {
	r.Helper()
	path := "/api/" + o.gvr.Version
	if group := o.gvr.Group; group != "" {
		path = "/apis/" + group + "/" + o.gvr.Version
		var groups metav1.APIGroupList
		r.document("/apis", "", &groups)
		at := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == group })
		if at < 0 {
			r.Fatalf("/apis has no group %s", group)
		}
		r.hasVersion("/apis", groups.Groups[at], o.gvr.Version)
		var one metav1.APIGroup
		r.document("/apis/"+group, "", &one)
		r.equal("name of the group in /apis/"+group, one.Name, group)
		r.hasVersion("/apis/"+group, one, o.gvr.Version)
	}
	var resources metav1.APIResourceList
	r.document(path, "", &resources)
	r.equal("groupVersion in "+path, resources.GroupVersion, o.gvr.GroupVersion().String())
	r.hasResource(path, resources, o.gvr.Resource, o.kind, o.namespaced, allVerbs)
	if o.status != "" {
		r.hasResource(path, resources, o.gvr.Resource+"/status", o.kind, o.namespaced, []string{"get", "patch", "update"})
	}
}

func (r *row) hasVersion(path string, g metav1.APIGroup, version string) {
	r.Helper()
	if !slices.ContainsFunc(g.Versions, func(v metav1.GroupVersionForDiscovery) bool {
		return v.Version == version && v.GroupVersion == g.Name+"/"+version
	}) {
		r.Fatalf("%s: group %s has versions %s, want %s", path, g.Name, asJSON(g.Versions), version)
	}
}

func (r *row) hasResource(path string, l metav1.APIResourceList, name, kind string, namespaced bool, verbs []string) {
	r.Helper()
	at := slices.IndexFunc(l.APIResources, func(a metav1.APIResource) bool { return a.Name == name })
	if at < 0 {
		r.Fatalf("%s has no %s", path, name)
	}
	got := l.APIResources[at]
	r.equal("kind of "+name, got.Kind, kind)
	r.equal("namespaced of "+name, got.Namespaced, namespaced)
	for _, verb := range verbs {
		if !slices.Contains(got.Verbs, verb) {
			r.Fatalf("%s: %s has verbs %v, want also %s", path, name, got.Verbs, verb)
		}
	}
}
