// Package handlers answers requests on resources: a file a verb, and write.go, the one path by which any object changes.
// Handlers return errors; errors.go writes them out as a Status. They know nothing of authentication or routing: the filters
// have run, and request.InfoOf says what is asked.
package handlers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/patch"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// Handlers answer requests on the resources of a registry. Safe for concurrent use.
type Handlers struct {
	reg      *registry.Registry
	admit    *admission.Chain
	access   Access
	log      *zap.Logger
	draining context.Context // ends when watches should end
	watchers *prometheus.GaugeVec
	turns    turns
	pace     *pace
	owners   *patch.Owners

	documents documents
}

// Access says whether a caller may do what turns out to be asked for only after the request was let in; why not is for the client.
type Access interface {
	Allow(ctx context.Context, u *request.User, i *request.Info) (ok bool, why string)
}

// Parts are what Handlers are made of.
type Parts struct {
	Registry  *registry.Registry
	Admission *admission.Chain
	Access    Access // nil: everything is allowed
	Log       *zap.Logger
	Draining  context.Context // ends when the server drains; watches end then
	Metrics   prometheus.Registerer
}

// New makes handlers.
func New(p Parts) *Handlers {
	h := &Handlers{
		reg: p.Registry, admit: p.Admission, access: p.Access, log: p.Log.Named("handlers"), draining: p.Draining, turns: newTurns(), pace: newPace(), owners: patch.NewOwners(),
		watchers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests", Help: "Running watches, by group, version and resource.",
		}, []string{"group", "version", "resource"}),
	}
	if p.Metrics != nil {
		p.Metrics.MustRegister(h.watchers)
	}
	return h
}

// Resource answers a request on a resource path.
func (h *Handlers) Resource(w http.ResponseWriter, r *http.Request) {
	if err := h.resource(w, r); err != nil {
		WriteError(w, r, err)
	}
}

func (h *Handlers) resource(w http.ResponseWriter, r *http.Request) error {
	info := request.InfoOf(r.Context())
	res := h.reg.Find(info.GVR())
	if res == nil {
		return errNoPath
	}
	if err := goodPath(info); err != nil {
		return err
	}
	if !goodMethod(r.Method, info) || info.Verb == "watch" && r.Method != http.MethodGet {
		return apierrors.NewMethodNotSupported(res.GroupResource(), strings.ToLower(r.Method))
	}
	if res.Namespaced && info.Namespace == "" && info.Verb != "list" && info.Verb != "watch" {
		if info.Name != "" {
			return errNoPath
		}
		return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb) // all namespaces at once: read only
	}
	if !res.Namespaced && info.Namespace != "" && (info.Resource != "namespaces" || nested(info)) {
		return errNoPath // it was authorized as being in that namespace
	}
	if res.Deprecated != "" {
		request.Warn(r.Context(), res.Deprecated)
		request.Note(r.Context(), "k8s.io/deprecated", "true")
	}
	if info.Subresource != "" {
		return h.subresource(w, r, res, info)
	}
	if !res.Allows(info.Verb) || info.Name == "" && (info.Verb == "update" || info.Verb == "patch") {
		return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
	}
	if res.Virtual {
		if a := res.Actions[""]; a != nil {
			return a.Serve(w, r, res, info)
		}
		return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
	}
	switch info.Verb {
	case "get":
		return h.get(w, r, res, info)
	case "list":
		return h.list(w, r, res, info)
	case "watch":
		return h.watch(w, r, res, info)
	case "create":
		if info.Name != "" {
			return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
		}
		return h.create(w, r, res, info)
	case "update":
		return h.put(w, r, res, info, whole)
	case "patch":
		return h.patch(w, r, res, info, whole)
	case "delete":
		return h.deleteOne(w, r, res, info)
	case "deletecollection":
		return h.deleteCollection(w, r, res, info)
	}
	return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
}

// goodMethod says whether a method is one that resources have. Others were authorized by their own name, which may be that of a verb.
// HEAD and OPTIONS are for whom a proxy leads to.
func goodMethod(method string, info *request.Info) bool {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	case http.MethodHead, http.MethodOptions:
		return info.Subresource == "proxy"
	}
	return false
}

// nested says whether a path is of a namespace in a namespace, which there is not: namespaces/A/namespaces/B.
func nested(info *request.Info) bool {
	_, inner, _ := strings.Cut(info.Path, "/namespaces/"+info.Namespace)
	return strings.HasPrefix(inner, "/namespaces")
}

// goodPath says no to paths that no object can have. Only proxies have something behind a subresource.
func goodPath(info *request.Info) error {
	switch {
	case info.Rest == "" && strings.Contains(info.Path, "//"), strings.HasPrefix(info.Path, "//"),
		info.Rest != "" && info.Subresource != "proxy", info.Name == "" && info.Subresource != "":
		return errNoPath
	}
	for _, s := range []string{info.Namespace, info.Name} {
		if wrong := content.IsPathSegmentName(s); len(wrong) > 0 {
			return badRequest(fmt.Sprintf("Name parameter invalid: %q: %s", s, strings.Join(wrong, ";")))
		}
	}
	return nil
}

func (h *Handlers) subresource(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	if a := res.Actions[info.Subresource]; a != nil {
		if !slices.Contains(a.Verbs, info.Verb) && (info.Subresource != "proxy" || r.Method != http.MethodOptions) {
			return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
		}
		return a.Serve(w, r, res, info)
	}
	p := part{of: res.Hub.Part(info.Subresource), name: info.Subresource}
	switch {
	case p == statusOnly && res.HasStatus, p.of != nil:
		switch info.Verb {
		case "get":
			return h.get(w, r, res, info)
		case "update":
			return h.put(w, r, res, info, p)
		case "patch":
			return h.patch(w, r, res, info, p)
		}
	case info.Subresource == "scale" && res.ScaleGet != nil:
		return h.scale(w, r, res, info)
	default:
		return errNoPath
	}
	return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
}

// background gives undo work its own bounded life, since the request's may be over.
func background(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}
