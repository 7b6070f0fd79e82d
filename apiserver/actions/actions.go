// Package actions holds the subresources that do instead of storing: a file each, listed in table.go. An action reads its
// body, decides, and changes objects only through Writer (the one write path) or passes the request on to a kubelet.
package actions

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/nodeproxy"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// Writer is the write path, as actions need it.
type Writer interface {
	// Mutate changes an object; change may be called again when another write came between.
	Mutate(ctx context.Context, res *registry.Resource, key storage.Key, sub string, dryRun bool,
		change func(old registry.Object) (registry.Object, error)) (registry.Object, error)
	Delete(ctx context.Context, res *registry.Resource, key storage.Key, o *metav1.DeleteOptions) (registry.Object, bool, error)
}

// Kubelets pass a request on to a node, or to whatever else is in the cluster.
type Kubelets interface {
	Serve(w http.ResponseWriter, r *http.Request, node, path string, query url.Values) error
	Forward(w http.ResponseWriter, r *http.Request, t nodeproxy.Target) error
	Kubelet(ctx context.Context, node string) (host, port string, err error) // where it listens
}

// Parts are what actions are made of.
type Parts struct {
	Write     Writer
	Kubelets  Kubelets
	Admission *admission.Chain // has a say where an action changes nothing that is stored
	Objects   Objects
	Tokens    Tokens
	Bearers   Bearers
	Access    Access
	// Components are the parts of the control plane, as componentstatuses tells them.
	Components []Component

	registry *registry.Registry // set by Attach
}

// Objects finds objects; one that does not exist is an apierrors NotFound.
type Objects interface {
	Node(ctx context.Context, name string) (*corev1.Node, error)
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	PodDisruptionBudgets(ctx context.Context, namespace string) ([]*policyv1.PodDisruptionBudget, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Service(ctx context.Context, namespace, name string) (*corev1.Service, error)
	EndpointSlices(ctx context.Context, namespace, service string) ([]*discoveryv1.EndpointSlice, error)
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
}

// Attach adds every action of the table to its resource.
func Attach(reg *registry.Registry, p Parts) {
	p.registry = reg
	for _, line := range table(p) {
		if res := reg.Find(line.on); res != nil {
			res.Actions[line.action.Name] = &line.action
		}
	}
}

type line struct {
	on     schema.GroupVersionResource
	action registry.Action
}

var (
	pods       = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	services   = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	nodes      = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	accounts   = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
)

func core(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: kind}
}

// read decodes a request's body. A body may also be of one of the other kinds, whose shape is the same.
func read(r *http.Request, gvk schema.GroupVersionKind, into runtime.Object, also ...schema.GroupVersionKind) error {
	b, err := codec.ReadBody(r)
	if err != nil {
		return err
	}
	media := codec.BodyMedia(r)
	if media == "" {
		return unsupported("the body of the request was in an unknown format (" + r.Header.Get("Content-Type") + ") - accepted media types include: ")
	}
	strict := codec.Strictness(r.URL.Query().Get("fieldValidation"))
	switch strict {
	case "":
		strict = codec.Warn
	case codec.Ignore, codec.Warn, codec.Strict:
	default:
		return apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "CreateOptions"}, "", field.ErrorList{
			field.NotSupported(field.NewPath("fieldValidation"), strict, []codec.Strictness{"", codec.Ignore, codec.Strict, codec.Warn}),
		})
	}
	for _, other := range also {
		if sent, err := codec.PeekKind(b, media); err == nil && sent == other {
			gvk = other
		}
	}
	warnings, err := codec.Decode(b, media, gvk, into, strict)
	for _, text := range warnings {
		request.Warn(r.Context(), text)
	}
	if err == nil {
		audit.Sent(r.Context(), into, gvk)
	}
	return err
}

func unsupported(what string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: what + media,
	}}
}

// media are the forms in which actions read and answer.
const media = codec.JSON + ", " + codec.YAML + ", " + codec.Protobuf

// write sends any object as the answer.
func write(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object, gvk schema.GroupVersionKind) error {
	a, ok := codec.Negotiate(r, false)
	if !ok {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
			Message: "only the following media types are accepted: " + media,
		}}
	}
	if record := request.RecordOf(r.Context()); record != nil {
		if s, ok := obj.(*metav1.Status); ok {
			record.Status(s)
		}
		audit.Answered(record, obj, gvk)
	}
	return writeAs(w, a, code, obj, gvk)
}

func writeAs(w http.ResponseWriter, a codec.Accepted, code int, obj runtime.Object, gvk schema.GroupVersionKind) error {
	b, err := codec.Encode(obj, gvk, a)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", a.ContentType(false))
	w.WriteHeader(code)
	_, _ = w.Write(b) // a client that went away does not want to know
	return nil
}

// created is the Status that an action on an object answers with.
func created(w http.ResponseWriter, r *http.Request) error {
	return write(w, r, http.StatusCreated, &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, core("Status"))
}

func dryRun(r *http.Request) bool { return r.URL.Query().Get("dryRun") == metav1.DryRunAll }

func keyOf(i *request.Info) storage.Key { return storage.Key{Namespace: i.Namespace, Name: i.Name} }

// pod reads the pod of a request.
func pod(ctx context.Context, on *registry.Resource, i *request.Info) (*corev1.Pod, error) {
	e, err := on.Store.Get(ctx, keyOf(i), storage.Read{})
	if err != nil {
		if errors.Is(err, storage.ErrNotFound) {
			return nil, apierrors.NewNotFound(on.GroupResource(), i.Name)
		}
		return nil, err
	}
	obj, err := on.Decode(e)
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}
