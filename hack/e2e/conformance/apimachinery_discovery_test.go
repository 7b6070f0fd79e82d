package conformance

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// builtin are kinds that every server of the stable API has, one at least of each group.
func builtin() []schema.GroupVersionResource {
	var out []schema.GroupVersionResource
	for _, line := range []string{
		"/v1/namespaces", "admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "apiextensions.k8s.io/v1/customresourcedefinitions",
		"apiregistration.k8s.io/v1/apiservices", "apps/v1/deployments", "authentication.k8s.io/v1/tokenreviews",
		"authorization.k8s.io/v1/selfsubjectaccessreviews", "autoscaling/v1/horizontalpodautoscalers",
		"autoscaling/v2/horizontalpodautoscalers", "batch/v1/jobs", "certificates.k8s.io/v1/certificatesigningrequests",
		"coordination.k8s.io/v1/leases", "discovery.k8s.io/v1/endpointslices", "events.k8s.io/v1/events",
		"networking.k8s.io/v1/ingresses", "node.k8s.io/v1/runtimeclasses", "policy/v1/poddisruptionbudgets",
		"scheduling.k8s.io/v1/priorityclasses", "storage.k8s.io/v1/csinodes",
	} {
		f := strings.Split(line, "/")
		out = append(out, schema.GroupVersionResource{Group: f[0], Version: f[1], Resource: f[2]})
	}
	return out
}

// AM-001: the client's interface of aggregated discovery finds all built-in kinds.
func aggregatedDiscovery(r *row) {
	client, ok := r.kube.Discovery().(discovery.AggregatedDiscoveryInterface)
	if !ok {
		r.Fatalf("the client knows no aggregated discovery")
	}
	groups, resources, failed, err := client.GroupsAndMaybeResources()
	r.must(err, "asking for groups and resources")
	r.equal("versions that failed", len(failed), 0)
	if resources == nil {
		r.Fatal("the server gave no resources with the groups: it does not aggregate")
	}
	for _, gvr := range builtin() {
		at := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == gvr.Group })
		if at < 0 {
			r.Errorf("no group %q", gvr.Group)
			continue
		}
		if !slices.ContainsFunc(groups.Groups[at].Versions, func(v metav1.GroupVersionForDiscovery) bool { return v.Version == gvr.Version }) {
			r.Errorf("group %q has no version %s", gvr.Group, gvr.Version)
		}
		list := resources[gvr.GroupVersion()]
		if list == nil || !slices.ContainsFunc(list.APIResources, func(a metav1.APIResource) bool { return a.Name == gvr.Resource }) {
			r.Errorf("%v has no %s", gvr.GroupVersion(), gvr.Resource)
		}
	}
}

// AM-003: /api and /apis give the aggregated document when asked for in the Accept header.
func aggregatedDocuments(r *row) {
	const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	documents := map[string]discoveryv2.APIGroupDiscoveryList{}
	for _, path := range []string{"/api", "/apis"} {
		var list discoveryv2.APIGroupDiscoveryList
		r.document(path, accept, &list)
		r.equal("kind of "+path, list.Kind, "APIGroupDiscoveryList")
		r.equal("version of "+path, list.APIVersion, "apidiscovery.k8s.io/v2")
		documents[path] = list
	}
	for _, gvr := range builtin() {
		path := "/apis"
		if gvr.Group == "" {
			path = "/api"
		}
		if !aggregated(documents[path], gvr) {
			r.Errorf("%s has no %v", path, gvr)
		}
	}
}

func aggregated(l discoveryv2.APIGroupDiscoveryList, gvr schema.GroupVersionResource) bool {
	return slices.ContainsFunc(l.Items, func(g discoveryv2.APIGroupDiscovery) bool {
		return g.Name == gvr.Group && slices.ContainsFunc(g.Versions, func(v discoveryv2.APIVersionDiscovery) bool {
			return v.Version == gvr.Version && slices.ContainsFunc(v.Resources, func(a discoveryv2.APIResourceDiscovery) bool {
				return a.Resource == gvr.Resource && a.ResponseKind != nil && a.ResponseKind.Kind != "" && len(a.Verbs) > 0
			})
		})
	})
}

// AM-026: each group in /apis has its document, and each of its versions one that names resources; the known ones are there.
func everyGroupHasResources(r *row) {
	var groups metav1.APIGroupList
	r.document("/apis", "", &groups)
	found := map[schema.GroupVersionResource]bool{}
	for _, g := range groups.Groups {
		var one metav1.APIGroup
		r.document("/apis/"+g.Name, "", &one)
		r.equal("name in /apis/"+g.Name, one.Name, g.Name)
		r.equal("versions in /apis/"+g.Name, one.Versions, g.Versions)
		for _, v := range g.Versions {
			r.equal("groupVersion of "+g.Name, v.GroupVersion, g.Name+"/"+v.Version)
			var list metav1.APIResourceList
			r.document("/apis/"+v.GroupVersion, "", &list)
			r.equal("groupVersion in /apis/"+v.GroupVersion, list.GroupVersion, v.GroupVersion)
			// A group that a running test has just made may be on its way.
			if len(list.APIResources) == 0 && !strings.HasSuffix(g.Name, "example.com") {
				r.Errorf("/apis/%s names no resource", v.GroupVersion)
			}
			for _, a := range list.APIResources {
				if a.Kind == "" || len(a.Verbs) == 0 {
					r.Errorf("/apis/%s: %s has no kind or no verb", v.GroupVersion, a.Name)
				}
				found[schema.GroupVersionResource{Group: g.Name, Version: v.Version, Resource: a.Name}] = true
			}
		}
	}
	for _, gvr := range builtin() {
		if gvr.Group != "" && !found[gvr] {
			r.Errorf("no %v in the documents", gvr)
		}
	}
}

// AM-027: the preferred version of each group is one that it has, in the list of groups and in the group's own document.
func everyGroupPrefersOfferedVersion(r *row) {
	var groups metav1.APIGroupList
	r.document("/apis", "", &groups)
	if len(groups.Groups) == 0 {
		r.Fatal("/apis has no group")
	}
	for _, g := range groups.Groups {
		var one metav1.APIGroup
		r.document("/apis/"+g.Name, "", &one)
		if g.PreferredVersion.GroupVersion == "" || !slices.Contains(g.Versions, g.PreferredVersion) {
			r.Errorf("group %s prefers %s and has %s", g.Name, asJSON(g.PreferredVersion), asJSON(g.Versions))
		}
		if one.PreferredVersion.GroupVersion == "" || !slices.Contains(one.Versions, one.PreferredVersion) {
			r.Errorf("/apis/%s prefers %s and has %s", g.Name, asJSON(one.PreferredVersion), asJSON(one.Versions))
		}
	}
}

// AM-067: the server's version has a major and a minor part that are numbers.
func serverVersion(r *row) {
	v, err := r.kube.Discovery().ServerVersion()
	r.must(err, "asking for the version")
	for what, part := range map[string]string{"major": v.Major, "minor": v.Minor} {
		if !regexp.MustCompile(`^[0-9]+$`).MatchString(part) {
			r.Errorf("%s version is %q, want a number", what, part)
		}
	}
	r.equal("major version", v.Major, "1")
	if !strings.HasPrefix(v.GitVersion, "v"+v.Major+"."+v.Minor+".") {
		r.Errorf("gitVersion is %q, want one of v%s.%s", v.GitVersion, v.Major, v.Minor)
	}
}

// AM-069: a kind that is not stored has no table, and who accepts nothing else gets a 406.
func notAcceptable(r *row) {
	review, err := json.Marshal(&authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "default", Resource: "pods", Verb: "get"},
		},
	})
	r.must(err, "writing a review")
	post := func(accept string) (int, metav1.Status) {
		client, err := rest.HTTPClientFor(r.config)
		r.must(err, "making a client")
		request, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.config.Host+"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", bytes.NewReader(review))
		r.must(err, "making a request")
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", accept)
		response, err := client.Do(request)
		r.must(err, "sending a review")
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		r.must(err, "reading the answer")
		var status metav1.Status
		_ = json.Unmarshal(body, &status) // it may be something else, and is compared then
		return response.StatusCode, status
	}
	code, status := post("application/json;as=Table;v=v1;g=meta.k8s.io")
	r.equal("code for a table of a review", code, http.StatusNotAcceptable)
	r.equal("reason for a table of a review", status.Reason, metav1.StatusReasonNotAcceptable)
	code, _ = post("application/json")
	r.equal("code without a wish for a table", code, http.StatusCreated)
}
