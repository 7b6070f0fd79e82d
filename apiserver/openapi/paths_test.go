package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources"
)

// describedPaths is the document of a path, of a registry whose pods have actions.
func describedPaths(t *testing.T, at string) map[string]*spec3.Path {
	t.Helper()
	reg := registry.New(nowhere{}, resources.Table)
	pods := reg.Find(schema.GroupVersionResource{Version: "v1", Resource: "pods"})
	for _, a := range []registry.Action{
		{Name: "eviction", Kind: schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}, Verbs: []string{"create"}},
		{Name: "log", Kind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Verbs: []string{"get"}},
		{Name: "exec", Kind: schema.GroupVersionKind{Version: "v1", Kind: "PodExecOptions"}, Verbs: []string{"create", "get"}},
		{Name: "proxy", Kind: schema.GroupVersionKind{Version: "v1", Kind: "PodProxyOptions"}, Verbs: []string{"create", "delete", "get", "patch", "update"}},
	} {
		pods.Actions[a.Name] = &a
	}
	doc := &spec3.OpenAPI{}
	if err := json.Unmarshal(ask(t, New(reg).ServeV3, "/openapi/v3/"+at).Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	return doc.Paths.Paths
}

func TestOperations(t *testing.T) {
	core, tokens := describedPaths(t, "api/v1"), describedPaths(t, "apis/authentication.k8s.io/v1")
	const pod = "/api/v1/namespaces/{namespace}/pods/{name}"
	for _, c := range []struct {
		op               *spec3.Operation
		id, action, kind string
	}{
		{core["/api/v1/pods"].Get, "listCoreV1PodForAllNamespaces", "list", "/v1 Pod"},
		{core["/api/v1/namespaces/{namespace}/pods"].Get, "listCoreV1NamespacedPod", "list", "/v1 Pod"},
		{core["/api/v1/namespaces/{namespace}/pods"].Post, "createCoreV1NamespacedPod", "post", "/v1 Pod"},
		{core["/api/v1/namespaces/{namespace}/pods"].Delete, "deleteCoreV1CollectionNamespacedPod", "deletecollection", "/v1 Pod"},
		{core["/api/v1/nodes"].Delete, "deleteCoreV1CollectionNode", "deletecollection", "/v1 Node"},
		{core[pod].Get, "readCoreV1NamespacedPod", "get", "/v1 Pod"},
		{core[pod].Put, "replaceCoreV1NamespacedPod", "put", "/v1 Pod"},
		{core[pod].Patch, "patchCoreV1NamespacedPod", "patch", "/v1 Pod"},
		{core[pod].Delete, "deleteCoreV1NamespacedPod", "delete", "/v1 Pod"},
		{core[pod+"/status"].Patch, "patchCoreV1NamespacedPodStatus", "patch", "/v1 Pod"},
		{core[pod+"/resize"].Put, "replaceCoreV1NamespacedPodResize", "put", "/v1 Pod"},
		{core[pod+"/eviction"].Post, "createCoreV1NamespacedPodEviction", "post", "policy/v1 Eviction"},
		{core[pod+"/log"].Get, "readCoreV1NamespacedPodLog", "get", "/v1 Pod"},
		{core[pod+"/exec"].Post, "connectCoreV1PostNamespacedPodExec", "connect", "/v1 PodExecOptions"},
		{core[pod+"/proxy/{path}"].Patch, "connectCoreV1PatchNamespacedPodProxyWithPath", "connect", "/v1 PodProxyOptions"},
		{core["/api/v1/"].Get, "getCoreV1APIResources", "", ""},
		{tokens["/apis/authentication.k8s.io/v1/tokenreviews"].Post, "createAuthenticationV1TokenReview", "post", "authentication.k8s.io/v1 TokenReview"},
	} {
		kind := ""
		if k, ok := c.op.Extensions[gvkExtension].(map[string]any); ok {
			kind = fmt.Sprintf("%s/%s %s", k["group"], k["version"], k["kind"])
		}
		action, _ := c.op.Extensions[actionExtension].(string)
		if c.op.OperationId != c.id || action != c.action || kind != c.kind {
			t.Errorf("%s, %s of %s; want %s, %s of %s", c.op.OperationId, action, kind, c.id, c.action, c.kind)
		}
	}
	if got := slices.Sorted(maps.Keys(core[pod].Patch.RequestBody.Content)); !slices.Equal(got, patches) {
		t.Errorf("patches %v", got)
	}
	for name, op := range map[string]*spec3.Operation{
		"dryRun fieldManager fieldValidation":                            core["/api/v1/nodes"].Post,
		"dryRun fieldManager fieldValidation force":                      core[pod].Patch,
		"allowWatchBookmarks continue fieldSelector labelSelector limit": core["/api/v1/nodes"].Get,
		"dryRun gracePeriodSeconds orphanDependents propagationPolicy":   core[pod].Delete,
	} {
		for q := range strings.FieldsSeq(name) {
			if !hasQuery(op, q) {
				t.Errorf("%s has no %s", op.OperationId, q)
			}
		}
	}
	if tokens["/apis/authentication.k8s.io/v1/tokenreviews/{name}"] != nil {
		t.Error("a review can be named")
	}
	if core[pod+"/log"].Get.Responses.StatusCodeResponses[http.StatusOK].Content["text/plain"] == nil {
		t.Error("a log is no plain text")
	}
}

// What is about no resource has documents too.
func TestGeneralDocuments(t *testing.T) {
	for at, id := range map[string]string{
		"api": "getCoreAPIVersions", "apis": "getAPIVersions", "version": "getCodeVersion", "apis/rbac.authorization.k8s.io": "getRbacAuthorizationAPIGroup",
	} {
		paths := describedPaths(t, at)
		if p := paths["/"+at+"/"]; len(paths) != 1 || p == nil || p.Get.OperationId != id {
			t.Errorf("%s: %v", at, slices.Collect(maps.Keys(paths)))
		}
	}
}
