package openapi

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/registry"
)

var (
	takes = []string{"*/*"}
	gives = []string{"application/cbor", "application/json", "application/vnd.kubernetes.protobuf", "application/yaml"}
	// A list may be watched.
	streams = []string{
		"application/cbor", "application/cbor-seq", "application/json", "application/json;stream=watch",
		"application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf;stream=watch", "application/yaml",
	}
	patches = []string{
		"application/apply-patch+cbor", "application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json",
		"application/strategic-merge-patch+json",
	}
)

// resources describes every URL of the resources.
func (b *builder) resources(rs []*registry.Resource, paths map[string]*path) {
	for _, r := range rs {
		p := page{
			builder: b, r: r, paths: paths, base: root(r.GVK.GroupVersion()), object: reflect.TypeOf(r.New()).Elem(), kind: r.GVK,
			name: r.GVK.Kind,
		}
		if r.Namespaced {
			if r.Allows("list") {
				p.add(p.base+"/"+r.Plural, p.place(""), map[string]*operation{"get": p.list("ForAllNamespaces")})
			}
			p.base, p.scope = p.base+"/namespaces/{namespace}", "Namespaced"
		}
		p.base += "/" + r.Plural
		p.collection()
		p.one()
		three := []string{"get", "patch", "update"}
		if r.HasStatus {
			p.sub("status", r.GVK, p.object, three)
		}
		if r.ScaleGet != nil {
			p.sub("scale", autoscalingv1.SchemeGroupVersion.WithKind("Scale"), reflect.TypeFor[autoscalingv1.Scale](), three)
		}
		for _, part := range r.Parts {
			p.sub(part.Name, r.GVK, p.object, three)
		}
		for _, name := range slices.Sorted(maps.Keys(r.Actions)) {
			a := r.Actions[name]
			switch {
			case name == "": // what a virtual kind itself does
			case strings.HasSuffix(a.Kind.Kind, "Options"):
				p.connect(name, a)
			default:
				p.sub(name, a.Kind, b.typeOf(a.Kind), a.Verbs)
			}
		}
	}
}

// page writes the paths of one resource.
type page struct {
	*builder
	r      *registry.Resource
	paths  map[string]*path
	base   string // of the collection
	scope  string // Namespaced or empty, for operation ids
	object reflect.Type
	kind   schema.GroupVersionKind
	name   string // of the kind, for people
}

func (p *page) add(url string, params []param, operations map[string]*operation) {
	maps.DeleteFunc(operations, func(_ string, op *operation) bool { return op == nil })
	if len(operations) > 0 {
		p.paths[url] = &path{params, operations}
	}
}

func (p *page) collection() {
	ops := map[string]*operation{}
	if p.r.Allows("list") {
		ops["get"] = p.list("")
	}
	if p.r.Allows("create") {
		op := p.operation("create", "", "post", "create a "+p.name, p.kind)
		p.takes(op, p.object, true, metav1.CreateOptions{})
		p.answers(op, p.object, http.StatusOK, http.StatusCreated, http.StatusAccepted)
		ops["post"] = op
	}
	if p.r.Allows("deletecollection") {
		op := p.operation("delete", "", "deletecollection", "delete collection of "+p.name, p.kind)
		op.id = "delete" + operationGroup(p.r.GVK.GroupVersion()) + "Collection" + p.scope + p.name
		p.takes(op, reflect.TypeFor[metav1.DeleteOptions](), false, metav1.DeleteOptions{})
		for _, q := range p.queries(metav1.ListOptions{}) {
			if q.name != "watch" && q.name != "allowWatchBookmarks" {
				op.params = append(op.params, q)
			}
		}
		p.answers(op, reflect.TypeFor[metav1.Status](), http.StatusOK)
		ops["delete"] = op
	}
	p.add(p.base, p.place(""), ops)
}

func (p *page) one() {
	ops := p.change("", p.kind, p.object, p.r.Verbs)
	if p.r.Allows("delete") {
		op := p.operation("delete", "", "delete", "delete a "+p.name, p.kind)
		p.takes(op, reflect.TypeFor[metav1.DeleteOptions](), false, metav1.DeleteOptions{})
		p.answers(op, reflect.TypeFor[metav1.Status](), http.StatusOK, http.StatusAccepted)
		ops["delete"] = op
	}
	p.add(p.base+"/{name}", p.place(p.name), ops)
}

// change describes get, put and patch of an object, or of one of its subresources.
func (p *page) change(sub string, kind schema.GroupVersionKind, t reflect.Type, verbs []string) map[string]*operation {
	of, suffix := "", ""
	if sub != "" {
		of, suffix = sub+" of ", capital(sub)
	}
	ops := map[string]*operation{}
	if slices.Contains(verbs, "get") {
		op := p.operation("read", suffix, "get", "read "+of+"the specified "+p.name, kind)
		p.answers(op, t, http.StatusOK)
		ops["get"] = op
	}
	if slices.Contains(verbs, "update") {
		op := p.operation("replace", suffix, "put", "replace "+of+"the specified "+p.name, kind)
		p.takes(op, t, true, metav1.UpdateOptions{})
		p.answers(op, t, http.StatusOK, http.StatusCreated)
		ops["put"] = op
	}
	if slices.Contains(verbs, "patch") {
		op := p.operation("patch", suffix, "patch", "partially update "+of+"the specified "+p.name, kind)
		p.takes(op, reflect.TypeFor[metav1.Patch](), true, metav1.PatchOptions{})
		op.takes = patches
		p.answers(op, t, http.StatusOK, http.StatusCreated)
		ops["patch"] = op
	}
	return ops
}

// sub describes a subresource that is a document: a part of the object, or what an action takes and gives.
func (p *page) sub(name string, kind schema.GroupVersionKind, t reflect.Type, verbs []string) {
	if p.r.Plural == "pods" && name == "log" {
		t = reflect.TypeFor[string]()
	}
	ops := p.change(name, kind, t, verbs)
	if slices.Contains(verbs, "create") {
		op := p.operation("create", capital(name), "post", "create "+name+" of a "+p.name, kind)
		if t.Kind() == reflect.Struct {
			p.takes(op, t, true, metav1.CreateOptions{})
		}
		p.answers(op, t, http.StatusOK, http.StatusCreated, http.StatusAccepted)
		ops["post"] = op
	}
	params := p.place(p.name)
	if p.r.Plural == "pods" && name == "log" {
		ops["get"].gives = append([]string{"text/plain"}, gives...)
		params = append(params, p.queriesOf(p.typeOf(schema.GroupVersionKind{Version: "v1", Kind: "PodLogOptions"}))...)
	}
	p.add(p.base+"/{name}/"+name, params, ops)
}

// connect describes a subresource through which a connection goes: exec, proxy and their like. Its kind is that of its options.
func (p *page) connect(name string, a *registry.Action) {
	at := map[string]string{"get": "get", "update": "put", "create": "post", "delete": "delete", "patch": "patch", "options": "options", "head": "head"}
	describe := func(suffix string) map[string]*operation {
		ops := map[string]*operation{}
		for _, verb := range a.Verbs {
			method := at[verb]
			if method == "" {
				continue
			}
			op := p.operation("connect", capital(name)+suffix, "connect", "connect "+strings.ToUpper(method)+" requests to "+name+" of "+p.name, a.Kind)
			group := operationGroup(p.r.GVK.GroupVersion())
			op.id = strings.Replace(op.id, "connect"+group, "connect"+group+capital(method), 1)
			op.gives = takes
			p.answers(op, reflect.TypeFor[string](), http.StatusOK)
			ops[method] = op
		}
		return ops
	}
	params := append(p.place(p.name), p.queriesOf(p.typeOf(a.Kind))...)
	p.add(p.base+"/{name}/"+name, params, describe(""))
	if name == "proxy" {
		rest := param{in: "path", name: "path", kind: "string", about: "path to the resource", required: true}
		p.add(p.base+"/{name}/"+name+"/{path}", append(slices.Clone(params), rest), describe("WithPath"))
	}
}

func (p *page) list(suffix string) *operation {
	op := p.operation("list", suffix, "list", "list or watch objects of kind "+p.name, p.kind)
	op.gives = streams
	op.params = p.queries(metav1.ListOptions{})
	kind := p.kind.GroupVersion().WithKind(p.kind.Kind + "List")
	if t := p.typeOf(kind); t.Kind() == reflect.Struct {
		p.answers(op, t, http.StatusOK)
	} else {
		p.answersWith(op, p.listOf(p.object, kind), http.StatusOK)
	}
	return op
}

// operation describes one verb; suffix is a subresource, or where a list reaches.
func (p *page) operation(verb, suffix, action, about string, kind schema.GroupVersionKind) *operation {
	gv := p.r.GVK.GroupVersion()
	return &operation{
		id: verb + operationGroup(gv) + p.scope + p.r.GVK.Kind + suffix, about: about, tag: tagOf(gv), action: action, kind: &kind, gives: gives,
	}
}

func (b *builder) answers(op *operation, t reflect.Type, codes ...int) {
	b.answersWith(op, b.of(t), codes...)
}

func (b *builder) answersWith(op *operation, body *schemaOf, codes ...int) {
	for _, code := range codes {
		op.answers = append(op.answers, answer{strconv.Itoa(code), http.StatusText(code), body})
	}
	op.answers = append(op.answers, answer{code: "401", about: "Unauthorized"})
}

// takes describes the body and the query of an operation.
func (p *page) takes(op *operation, body reflect.Type, required bool, options any) {
	op.takes, op.body, op.bodyRequired = takes, p.of(body), required
	op.params = append(op.params, p.queries(options)...)
}

// place describes what stands in the path: the name, where there is one, and the namespace.
func (p *page) place(named string) []param {
	var out []param
	if named != "" {
		out = append(out, param{in: "path", name: "name", kind: "string", about: "name of the " + named, required: true})
	}
	if p.scope != "" {
		out = append(out, param{in: "path", name: "namespace", kind: "string", about: "object name and auth scope, such as for teams and projects", required: true})
	}
	return append(out, param{in: "query", name: "pretty", kind: "string", about: "If 'true', then the output is pretty printed. Defaults to " +
		"'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget)."})
}

func (b *builder) queries(options any) []param { return b.queriesOf(reflect.TypeOf(options)) }

// queriesOf are the query parameters by which options are given.
func (b *builder) queriesOf(t reflect.Type) []param {
	if known, ok := b.params[t]; ok || t.Kind() != reflect.Struct {
		return known
	}
	about := b.docs(t)
	var out []param
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "preconditions" || name == "shardSelector" {
			continue
		}
		var kind string
		switch in := indirect(f.Type); in.Kind() {
		case reflect.Bool:
			kind = "boolean"
		case reflect.Int32, reflect.Int64:
			kind = "integer"
		default: // of a list, one; it may be given several times
			kind = "string"
		}
		out = append(out, param{in: "query", name: name, kind: kind, about: about[name]})
	}
	slices.SortFunc(out, func(a, b param) int { return strings.Compare(a.name, b.name) })
	b.params[t] = out
	return out
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
