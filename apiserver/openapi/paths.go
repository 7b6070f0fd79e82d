package openapi

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/api"
	"pilothouse.dev/pkg/version"
)

// eithers are the types that may be written as several types of JSON.
var eithers = []reflect.Type{reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString]()}

var (
	takes   = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	gives   = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	streams = append(slices.Clone(gives), "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
	patches = []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}
)

func info() *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: version.Info().GitVersion}}
}

func security() spec.SecurityDefinitions {
	return spec.SecurityDefinitions{"BearerToken": {SecuritySchemeProps: spec.SecuritySchemeProps{
		Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
	}}}
}

// swagger is the v2 document of resources.
func swagger(resources []*registry.Resource) *spec.Swagger {
	b := newBuilder()
	s := &spec.Swagger{SwaggerProps: spec.SwaggerProps{Swagger: "2.0", Info: info(), Paths: b.paths(resources), SecurityDefinitions: security()}}
	s.Definitions = b.definitions
	s.Security = []map[string][]string{{"BearerToken": {}}}
	return s
}

// paths describes every URL of the resources.
func (b *builder) paths(resources []*registry.Resource) *spec.Paths {
	all := &spec.Paths{Paths: map[string]spec.PathItem{}}
	for _, r := range resources {
		b.served[reflect.TypeOf(r.New()).Elem()] = r.GVK
	}
	for _, r := range resources {
		p := page{b: b, r: r, paths: all.Paths, base: root(r.GVK.GroupVersion()), scope: "", object: reflect.TypeOf(r.New()).Elem(), kind: r.GVK}
		if r.Namespaced {
			if r.Allows("list") {
				all.Paths[p.base+"/"+r.Plural] = spec.PathItem{PathItemProps: spec.PathItemProps{
					Get: p.list("ForAllNamespaces"), Parameters: queries(metav1.ListOptions{}),
				}}
			}
			p.base, p.scope = p.base+"/namespaces/{namespace}", "Namespaced"
		}
		p.base += "/" + r.Plural
		p.collection()
		p.one()
		if r.HasStatus {
			p.sub("status", r.GVK, p.object, []string{"get", "patch", "update"})
		}
		if r.ScaleGet != nil {
			p.sub("scale", autoscalingv1.SchemeGroupVersion.WithKind("Scale"), reflect.TypeFor[autoscalingv1.Scale](), []string{"get", "patch", "update"})
		}
		for _, name := range slices.Sorted(maps.Keys(r.Actions)) {
			a := r.Actions[name]
			if name == "" { // what a virtual kind itself does
				continue
			}
			p.sub(name, a.Kind, typeOf(a.Kind), a.Verbs)
		}
	}
	return all
}

// typeOf is the Go type of a kind; a text for what the scheme does not know.
func typeOf(gvk schema.GroupVersionKind) reflect.Type {
	obj, err := api.Scheme.New(gvk)
	if err != nil {
		return reflect.TypeFor[string]()
	}
	return reflect.TypeOf(obj).Elem()
}

// page writes the paths of one resource.
type page struct {
	b      *builder
	r      *registry.Resource
	paths  map[string]spec.PathItem
	base   string // of the collection
	scope  string // Namespaced or empty, for operation ids
	object reflect.Type
	kind   schema.GroupVersionKind
}

func (p *page) collection() {
	item := spec.PathItem{PathItemProps: spec.PathItemProps{Parameters: p.place("")}}
	if p.r.Allows("list") {
		item.Get = p.list("")
		item.Get.Parameters = queries(metav1.ListOptions{})
	}
	if p.r.Allows("create") {
		item.Post = p.operation("create", "", "post", p.kind, p.object)
		p.takes(item.Post, p.object, takes, metav1.CreateOptions{})
		p.answers(item.Post, p.object, http.StatusOK, http.StatusCreated, http.StatusAccepted)
	}
	if p.r.Allows("deletecollection") {
		status := reflect.TypeFor[metav1.Status]()
		item.Delete = p.operation("deleteCollection", "", "deletecollection", p.kind, status)
		p.takes(item.Delete, reflect.TypeFor[metav1.DeleteOptions](), takes, metav1.DeleteOptions{})
		item.Delete.Parameters = append(item.Delete.Parameters, except(queries(metav1.ListOptions{}), "watch", "allowWatchBookmarks")...)
		optionalBody(item.Delete)
	}
	p.paths[p.base] = item
}

func (p *page) one() {
	item := spec.PathItem{PathItemProps: spec.PathItemProps{Parameters: p.place(p.kind.Kind)}}
	p.object3(&item, "", p.kind, p.object, p.r.Verbs)
	if p.r.Allows("delete") {
		item.Delete = p.operation("delete", "", "delete", p.kind, reflect.TypeFor[metav1.Status]())
		p.takes(item.Delete, reflect.TypeFor[metav1.DeleteOptions](), takes, metav1.DeleteOptions{})
		optionalBody(item.Delete)
		p.answers(item.Delete, reflect.TypeFor[metav1.Status](), http.StatusOK, http.StatusAccepted)
	}
	p.paths[p.base+"/{name}"] = item
}

// object3 describes get, put and patch.
func (p *page) object3(item *spec.PathItem, sub string, kind schema.GroupVersionKind, t reflect.Type, verbs []string) {
	if slices.Contains(verbs, "get") {
		item.Get = p.operation("read", sub, "get", kind, t)
	}
	if slices.Contains(verbs, "update") {
		item.Put = p.operation("replace", sub, "put", kind, t)
		p.takes(item.Put, t, takes, metav1.UpdateOptions{})
		p.answers(item.Put, t, http.StatusOK, http.StatusCreated)
	}
	if slices.Contains(verbs, "patch") {
		item.Patch = p.operation("patch", sub, "patch", kind, t)
		p.takes(item.Patch, reflect.TypeFor[metav1.Patch](), patches, metav1.PatchOptions{})
		p.answers(item.Patch, t, http.StatusOK, http.StatusCreated)
	}
}

// sub describes a subresource.
func (p *page) sub(name string, kind schema.GroupVersionKind, t reflect.Type, verbs []string) {
	item := spec.PathItem{PathItemProps: spec.PathItemProps{Parameters: p.place(kind.Kind)}}
	title := strings.ToUpper(name[:1]) + name[1:]
	p.object3(&item, title, kind, t, verbs)
	if slices.Contains(verbs, "create") {
		item.Post = p.operation("create", title, "post", kind, t)
		if t.Kind() == reflect.Struct {
			p.takes(item.Post, t, takes, metav1.CreateOptions{})
		}
		p.answers(item.Post, t, http.StatusOK, http.StatusCreated, http.StatusAccepted)
	}
	p.paths[p.base+"/{name}/"+name] = item
}

func (p *page) list(scope string) *spec.Operation {
	kind := p.kind.GroupVersion().WithKind(p.kind.Kind + "List")
	t := typeOf(kind)
	op := p.operation("list", scope, "list", p.kind, t)
	if t.Kind() != reflect.Struct {
		s := p.b.listOf(p.object, kind)
		op.Responses.StatusCodeResponses[http.StatusOK] = spec.Response{ResponseProps: spec.ResponseProps{Description: http.StatusText(http.StatusOK), Schema: &s}}
	}
	op.Produces = streams
	return op
}

// operation describes one verb; suffix is a subresource, or where a list reaches.
func (p *page) operation(verb, suffix, action string, kind schema.GroupVersionKind, answer reflect.Type) *spec.Operation {
	gv := p.r.GVK.GroupVersion()
	group := "Core"
	if gv.Group != "" {
		first, _, _ := strings.Cut(gv.Group, ".")
		group = strings.ToUpper(first[:1]) + first[1:]
	}
	id := verb + group + strings.ToUpper(gv.Version[:1]) + gv.Version[1:] + p.scope + p.r.GVK.Kind + suffix
	op := &spec.Operation{}
	op.ID, op.Responses = id, &spec.Responses{ResponsesProps: spec.ResponsesProps{StatusCodeResponses: map[int]spec.Response{}}}
	op.Tags = []string{strings.ToLower(group) + "_" + gv.Version}
	op.Description = verb + " " + strings.TrimSpace(p.r.GVK.Kind+" "+strings.ToLower(suffix))
	op.Consumes, op.Produces, op.Schemes = []string{"*/*"}, gives, []string{"https"}
	op.AddExtension("x-kubernetes-action", action)
	op.AddExtension(gvkExtension, gvkOf(kind))
	p.answers(op, answer, http.StatusOK)
	return op
}

func (p *page) answers(op *spec.Operation, t reflect.Type, codes ...int) {
	for _, code := range codes {
		s := p.b.of(t)
		op.Responses.StatusCodeResponses[code] = spec.Response{ResponseProps: spec.ResponseProps{Description: http.StatusText(code), Schema: &s}}
	}
	op.Responses.StatusCodeResponses[http.StatusUnauthorized] = spec.Response{ResponseProps: spec.ResponseProps{
		Description: http.StatusText(http.StatusUnauthorized),
	}}
}

// takes describes the body and the query of an operation.
func (p *page) takes(op *spec.Operation, body reflect.Type, media []string, options any) {
	s := p.b.of(body)
	op.Consumes = media
	op.Parameters = append(op.Parameters, spec.Parameter{ParamProps: spec.ParamProps{Name: "body", In: "body", Required: true, Schema: &s}})
	op.Parameters = append(op.Parameters, queries(options)...)
}

func optionalBody(op *spec.Operation) { op.Parameters[0].Required = false }

// place describes what stands in the path: the name, where there is one, and the namespace.
func (p *page) place(named string) []spec.Parameter {
	var out []spec.Parameter
	text := func(name, about string) {
		q := parameter("path", name, "string", about)
		q.Required = true
		out = append(out, q)
	}
	if named != "" {
		text("name", "name of the "+named)
	}
	if p.scope != "" {
		text("namespace", "object name and auth scope, such as for teams and projects")
	}
	return append(out, parameter("query", "pretty", "string", "If 'true', then the output is pretty printed."))
}

func parameter(in, name, kind, about string) spec.Parameter {
	p := spec.Parameter{ParamProps: spec.ParamProps{Name: name, In: in, Description: about}}
	p.Type, p.UniqueItems = kind, true
	return p
}

// queries are the query parameters by which options are given.
func queries(options any) []spec.Parameter {
	t := reflect.TypeOf(options)
	about := docs(t)
	b := newBuilder()
	var out []spec.Parameter
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "preconditions" {
			continue
		}
		s := b.of(f.Type)
		if len(s.Type) == 1 && s.Type[0] == "array" { // dryRun: may be given several times
			s = *spec.StringProperty()
		}
		if len(s.Type) == 0 {
			continue
		}
		out = append(out, parameter("query", name, s.Type[0], about[name]))
	}
	return out
}

func except(all []spec.Parameter, names ...string) []spec.Parameter {
	return slices.DeleteFunc(all, func(p spec.Parameter) bool { return slices.Contains(names, p.Name) })
}
