package handlers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// one is a store of one object that takes every write.
type one struct {
	reader
	entry atomic.Pointer[storage.Entry]
}

// reader is what no write asks for.
type reader interface {
	List(context.Context, storage.ListOptions) (*storage.Page, error)
	Watch(context.Context, storage.WatchOptions) (storage.Watcher, error)
	Delete(context.Context, storage.Key, int64) (*storage.Entry, error)
}

func (s *one) Store(storage.Kind) storage.Store { return s }

func (s *one) put(key storage.Key, value []byte) (*storage.Entry, error) {
	e := &storage.Entry{Key: key, Value: value, Revision: 1}
	if was := s.entry.Load(); was != nil {
		e.Revision = was.Revision + 1
	}
	s.entry.Store(e)
	return e, nil
}

func (s *one) Get(context.Context, storage.Key, storage.Read) (*storage.Entry, error) {
	return s.entry.Load(), nil
}

func (s *one) Create(_ context.Context, key storage.Key, value []byte, _ time.Duration) (*storage.Entry, error) {
	return s.put(key, value)
}

func (s *one) Update(_ context.Context, key storage.Key, value []byte, _ int64, _ time.Duration) (*storage.Entry, error) {
	return s.put(key, value)
}

// BenchmarkWrite is what a write of a ConfigMap of 1 KiB costs without the network, the filters and the store.
func BenchmarkWrite(b *testing.B) {
	maps := registry.Define(registry.Kind[*corev1.ConfigMap]{Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Namespaced: true})
	h := New(Parts{
		Registry: registry.New(&one{}, []*registry.Resource{maps}), Admission: admission.New(nil), Log: zap.NewNop(), Draining: context.Background(),
	})
	const path = "/api/v1/namespaces/default/configmaps"
	data := func(c string) string { return `"data":{"a":"` + strings.Repeat(c, 1024) + `"}` }
	send := func(b *testing.B, method, path, media, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", media)
		r.Header.Set("User-Agent", "bench/1.0")
		w := httptest.NewRecorder()
		h.Resource(w, r.WithContext(request.Begin(r.Context(), request.Parse(r), zap.NewNop(), nil)))
		if w.Code >= http.StatusBadRequest {
			b.Fatalf("%s: %d %s", method, w.Code, w.Body)
		}
	}
	for _, c := range []struct{ name, method, path, media, body, other string }{
		{"create", "POST", path, "application/json", `{"metadata":{"name":"a"},` + data("x") + `}`, `{"metadata":{"name":"a"},` + data("x") + `}`},
		{"update", "PUT", path + "/a", "application/json", `{"metadata":{"name":"a"},` + data("y") + `}`, `{"metadata":{"name":"a"},` + data("z") + `}`},
		{"merge patch", "PATCH", path + "/a", "application/merge-patch+json", `{` + data("y") + `}`, `{` + data("z") + `}`},
		{"apply", "PATCH", path + "/a?fieldManager=m&force=true", "application/apply-patch+yaml",
			`{"apiVersion":"v1","kind":"ConfigMap",` + data("y") + `}`, `{"apiVersion":"v1","kind":"ConfigMap",` + data("z") + `}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			send(b, "POST", path, "application/json", `{"metadata":{"name":"a"},`+data("w")+`}`)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				body := c.body
				if i%2 == 1 {
					body = c.other
				}
				send(b, c.method, c.path, c.media, body)
			}
		})
	}
}
