package handlers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/version"
)

// Groups answers /apis (core false) and /api (core true), plain or aggregated
// (https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery).
func (h *Handlers) Groups(core bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, aggregated, ok := negotiateDiscovery(r)
		switch {
		case aggregated:
			h.document(w, r, a, ok, aggregatedKind, func(all []*registry.Resource) runtime.Object { return aggregate(all, core) })
		case core:
			h.document(w, r, a, ok, unversioned("APIVersions"), func([]*registry.Resource) runtime.Object {
				return &metav1.APIVersions{Versions: []string{"v1"}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{}}
			})
		default:
			h.document(w, r, a, ok, unversioned("APIGroupList"), func(all []*registry.Resource) runtime.Object {
				return &metav1.APIGroupList{Groups: groups(all)}
			})
		}
	}
}

// Group answers /apis/GROUP.
func (h *Handlers) Group(w http.ResponseWriter, r *http.Request, group string) {
	a, ok := codec.Negotiate(r, false)
	h.document(w, r, a, ok, unversioned("APIGroup"), func(all []*registry.Resource) runtime.Object {
		for _, g := range groups(all) {
			if g.Name == group {
				return &g
			}
		}
		return nil
	})
}

// GroupVersion answers /api/v1 and /apis/GROUP/VERSION.
func (h *Handlers) GroupVersion(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion) {
	a, ok := codec.Negotiate(r, false)
	h.document(w, r, a, ok, unversioned("APIResourceList"), func(all []*registry.Resource) runtime.Object {
		if list := resourceList(all, gv); list != nil {
			return list
		}
		return nil
	})
}

func unversioned(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: kind}
}

var aggregatedKind = schema.GroupVersionKind{Group: "apidiscovery.k8s.io", Version: "v2", Kind: "APIGroupDiscoveryList"}

// documents are the discovery documents made since the registry changed last, each in the forms that were asked for. Ready for
// use when zero.
type documents struct {
	mu   sync.Mutex
	of   []*registry.Resource // the registry's list; a change makes it another
	kept map[string]encoded
}

type encoded struct {
	body []byte
	tag  string
}

// get returns the document kept under key, or makes it. Nothing is kept of what does not exist.
func (d *documents) get(all []*registry.Resource, key string, make func() ([]byte, error)) (encoded, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(all) != len(d.of) || len(all) > 0 && &all[0] != &d.of[0] {
		d.of, d.kept = all, map[string]encoded{}
	}
	if e, ok := d.kept[key]; ok {
		return e, nil
	}
	b, err := make()
	if err != nil {
		return encoded{}, err
	}
	sum := sha256.Sum256(b)
	e := encoded{b, strconv.Quote(strings.ToUpper(hex.EncodeToString(sum[:])))}
	d.kept[key] = e
	return e, nil
}

// document writes a discovery document; make gives nil when there is none.
func (h *Handlers) document(w http.ResponseWriter, r *http.Request, a codec.Accepted, ok bool, kind schema.GroupVersionKind,
	make func(all []*registry.Resource) runtime.Object) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		WriteError(w, r, apierrors.NewMethodNotSupported(schema.GroupResource{}, strings.ToLower(r.Method)))
		return
	}
	if !ok {
		WriteError(w, r, notAcceptable(codec.Media...))
		return
	}
	all := h.reg.All()
	path := strings.TrimSuffix(r.URL.Path, "/")
	e, err := h.documents.get(all, kind.Kind+" "+path+" "+a.Media+" "+strconv.FormatBool(a.Pretty), func() ([]byte, error) {
		doc := make(all)
		if doc == nil {
			return nil, errNoPath
		}
		return codec.Encode(doc, kind, a)
	})
	if err != nil {
		WriteError(w, r, err)
		return
	}
	if kind == aggregatedKind {
		writeAggregated(w, r, a, e)
		return
	}
	writeBody(w, a, http.StatusOK, e.body)
}

// writeAggregated answers with a document that clients keep and ask for again by its tag.
func writeAggregated(w http.ResponseWriter, r *http.Request, a codec.Accepted, e encoded) {
	w.Header().Set("ETag", e.tag)
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", "public")
	if strings.Contains(r.Header.Get("If-None-Match"), e.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", a.Media+";g="+aggregatedKind.Group+";v="+aggregatedKind.Version+";as="+aggregatedKind.Kind)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(e.body) // a client that went away does not want to know
}

// negotiateDiscovery chooses the form of /api and /apis: of the Accept header's clauses the one with the highest quality that
// can be served, the earlier of equals.
func negotiateDiscovery(r *http.Request) (a codec.Accepted, aggregated, ok bool) {
	header := r.Header.Get("Accept")
	if !strings.Contains(header, aggregatedKind.Kind) {
		a, ok = codec.Negotiate(r, false)
		return a, false, ok
	}
	top := 0.0
	for clause := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(clause)
		if err != nil {
			continue
		}
		q := 1.0
		if s, has := params["q"]; has {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				continue
			}
		}
		if !(q > top) {
			continue
		}
		whole := params["as"] == aggregatedKind.Kind && params["g"] == aggregatedKind.Group && params["v"] == aggregatedKind.Version
		if whole {
			clause = media
		}
		if got, fits := codec.Negotiate(&http.Request{URL: r.URL, Header: http.Header{"Accept": {clause}, "User-Agent": r.Header["User-Agent"], "Accept-Encoding": r.Header["Accept-Encoding"]}}, false); fits {
			a, aggregated, ok, top = got, whole, true, q
		}
	}
	return a, aggregated, ok
}

// Version answers /version: what this server is, and which Kubernetes it is like.
func Version(w http.ResponseWriter, r *http.Request) {
	v := version.Info()
	v.EmulationMajor, v.EmulationMinor = version.Major, version.Minor
	v.MinCompatibilityMajor, v.MinCompatibilityMinor = version.Major, version.Minor
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
