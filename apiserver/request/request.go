// Package request holds what is known of one HTTP request: who asks, which verb on which resource, parsed once from method
// and path (https://kubernetes.io/docs/reference/using-api/api-concepts/), and what else rides the context. It is the lowest
// room; everything above may ask it.
package request

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// User is an authenticated caller.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// InGroup says whether the user is in the group.
func (u *User) InGroup(group string) bool {
	for _, g := range u.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// Info is a request as authorization, audit and the handlers see it. It is set once, before the filters that read it.
type Info struct {
	// Verb is get, list, watch, create, update, patch, delete or deletecollection for a resource; else the HTTP method in
	// lower case.
	Verb        string
	IsResource  bool
	Path        string // of the URL
	Group       string // empty for core
	Version     string
	Namespace   string // empty when cluster-scoped, or for all namespaces
	Resource    string // plural
	Name        string // of a list or watch: the only one it selects
	Subresource string
	Rest        string     // what follows the subresource, without its slash (proxy paths)
	Manager     string     // of a POST, PUT or PATCH: who owns the fields it writes; as the client says it, or the program it is
	Selects     *Selectors // of a list, watch or deletecollection; nil: everything
}

// GVR is the group, version and resource asked for.
func (i *Info) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: i.Group, Version: i.Version, Resource: i.Resource}
}

// Parse reads method and path. It never fails: what is not a resource path is a non-resource request.
func Parse(r *http.Request) *Info {
	i := &Info{Path: r.URL.Path}
	parts := make([]string, 0, 8) // deeper paths are rare (proxy)
	for part := range strings.SplitSeq(strings.Trim(r.URL.Path, "/"), "/") {
		parts = append(parts, part)
	}
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		i.Version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		i.Group, i.Version, parts = parts[1], parts[2], parts[3:]
	default:
		i.Verb = strings.ToLower(r.Method)
		return i
	}
	i.IsResource = true
	// The old prefixes /watch/ are still parsed, as upstream does, so that such a request is authorized as a watch.
	watch := false
	if parts[0] == "watch" && len(parts) > 1 {
		watch, parts = true, parts[1:]
	}
	if parts[0] == "namespaces" {
		switch {
		case len(parts) == 1:
		case len(parts) == 2, len(parts) == 3 && (parts[2] == "status" || parts[2] == "finalize"):
			i.Namespace = parts[1] // a namespace is authorized as being in itself
		default:
			i.Namespace, parts = parts[1], parts[2:]
		}
	}
	i.Resource = parts[0]
	if len(parts) > 1 {
		i.Name = parts[1]
	}
	if len(parts) > 2 {
		i.Subresource = parts[2]
	}
	if len(parts) > 3 {
		i.Rest = strings.Join(parts[3:], "/")
	}
	i.Verb = verb(r, i, watch)
	switch i.Verb {
	case "list", "watch", "deletecollection":
		i.Selects = selectors(r)
	}
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		i.Manager = manager(r)
	}
	return i
}

func verb(r *http.Request, i *Info, watch bool) string {
	if watch {
		return "watch" // whatever the method: nothing but GET is answered there
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if i.Name != "" {
			return "get" // also with ?watch: to watch one object, select it by its name
		}
		return collection(r, i)
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if i.Name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(r.Method)
}

// collection settles a list or watch. One that selects a single name is authorized as being about that object.
func collection(r *http.Request, i *Info) string {
	if r.URL.RawQuery == "" {
		return "list"
	}
	q := r.URL.Query()
	if s := q.Get("fieldSelector"); strings.Contains(s, "metadata.name") {
		if sel, err := fields.ParseSelector(s); err == nil {
			if name, ok := sel.RequiresExactMatch("metadata.name"); ok && len(content.IsPathSegmentName(name)) == 0 {
				i.Name = name
			}
		}
	}
	if v := q["watch"]; len(v) > 0 && !strings.EqualFold(v[0], "false") && v[0] != "0" {
		return "watch"
	}
	return "list"
}
