package openapi

import (
	"net/http"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	own "pilothouse.dev/pkg/version"
)

const (
	title         = "Kubernetes"
	securityName  = "BearerToken"
	securityAbout = "Bearer Token authentication"

	actionExtension = "x-kubernetes-action"
)

func release() string { return own.Info().GitVersion }

// root is the URL under which a group version is served.
func root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// groupTitle is a group's name in operation ids: Core, Apps, RbacAuthorization.
func groupTitle(group string) string {
	if group == "" {
		return "Core"
	}
	var b strings.Builder
	for part := range strings.SplitSeq(strings.TrimSuffix(group, ".k8s.io"), ".") {
		b.WriteString(capital(part))
	}
	return b.String()
}

func operationGroup(gv schema.GroupVersion) string {
	return groupTitle(gv.Group) + capital(gv.Version)
}

func groupTag(group string) string {
	t := groupTitle(group)
	return strings.ToLower(t[:1]) + t[1:]
}

func tagOf(gv schema.GroupVersion) string { return groupTag(gv.Group) + "_" + gv.Version }

// document describes one discovery document.
func (b *builder) document(paths map[string]*path, url, id, about, tag string, t reflect.Type, media []string) {
	op := &operation{id: id, about: about, tag: tag, gives: media}
	b.answers(op, t, http.StatusOK)
	paths[url] = &path{operations: map[string]*operation{"get": op}}
}

// general describes what is about no resource. What it is of is a path of ServeV3: api, apis, apis/GROUP, version, or that of a
// group version.
func (b *builder) general(of string, paths map[string]*path) {
	plain := []string{"application/json", "application/vnd.kubernetes.protobuf", "application/yaml"}
	switch parts := strings.Split(of, "/"); {
	case of == "api":
		b.document(paths, "/api/", "getCoreAPIVersions", "get available API versions", "core", reflect.TypeFor[metav1.APIVersions](), plain)
	case of == "apis":
		b.document(paths, "/apis/", "getAPIVersions", "get available API versions", "apis", reflect.TypeFor[metav1.APIGroupList](), plain)
	case of == "version":
		b.document(paths, "/version/", "getCodeVersion", "get the version information for this server", "version", reflect.TypeFor[version.Info](), plain[:1])
	case parts[0] == "apis" && len(parts) == 2:
		b.document(paths, "/"+of+"/", "get"+groupTitle(parts[1])+"APIGroup", "get information of a group", groupTag(parts[1]), reflect.TypeFor[metav1.APIGroup](), plain)
	default:
		gv := versionOf(parts)
		b.document(paths, "/"+of+"/", "get"+operationGroup(gv)+"APIResources", "get available resources", tagOf(gv), reflect.TypeFor[metav1.APIResourceList](), plain)
		b.of(reflect.TypeFor[metav1.WatchEvent]()) // what a watch of any of its resources gives
	}
}

// versionOf is the group version whose path is split: api/v1 or apis/GROUP/VERSION.
func versionOf(parts []string) schema.GroupVersion {
	if len(parts) == 2 {
		return schema.GroupVersion{Version: parts[1]}
	}
	return schema.GroupVersion{Group: parts[1], Version: parts[2]}
}
