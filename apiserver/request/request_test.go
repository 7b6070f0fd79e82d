package request

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         Info
	}{
		{"GET", "/healthz", Info{Verb: "get"}},
		{"POST", "/api", Info{Verb: "post"}},
		{"GET", "/apis/apps/v1", Info{Verb: "get"}},
		{"GET", "/api/v1/pods", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods"}},
		{"HEAD", "/api/v1/pods", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=true", Info{Verb: "watch", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=1", Info{Verb: "watch", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=false", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/watch/namespaces/n/pods", Info{Verb: "watch", IsResource: true, Version: "v1", Namespace: "n", Resource: "pods"}},
		{"GET", "/api/v1/watch/namespaces/n/pods/p", Info{Verb: "watch", IsResource: true, Version: "v1", Namespace: "n", Resource: "pods", Name: "p"}},
		{"GET", "/apis/apps/v1/watch/deployments", Info{Verb: "watch", IsResource: true, Group: "apps", Version: "v1", Resource: "deployments"}},
		{"POST", "/api/v1/watch/pods", Info{Verb: "watch", IsResource: true, Version: "v1", Resource: "pods"}},
		{"DELETE", "/api/v1/watch/nodes/x", Info{Verb: "watch", IsResource: true, Version: "v1", Resource: "nodes", Name: "x"}},
		{"GET", "/api/v1/pods?watch=", Info{Verb: "watch", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=0", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=FALSE", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods", Name: "x"}},
		{"GET", "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn,metadata.name%3Dx", Info{Verb: "watch", IsResource: true, Version: "v1", Resource: "pods", Name: "x"}},
		{"GET", "/api/v1/pods?fieldSelector=metadata.name!%3Dx", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?fieldSelector=metadata.name%3D..", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/nodes/x?watch=true", Info{Verb: "get", IsResource: true, Version: "v1", Resource: "nodes", Name: "x"}},
		{"GET", "/api/v1/nodes/x", Info{Verb: "get", IsResource: true, Version: "v1", Resource: "nodes", Name: "x"}},
		{"GET", "/api/v1/namespaces", Info{Verb: "list", IsResource: true, Version: "v1", Resource: "namespaces"}},
		{"GET", "/api/v1/namespaces/n", Info{Verb: "get", IsResource: true, Version: "v1", Namespace: "n", Resource: "namespaces", Name: "n"}},
		{"PUT", "/api/v1/namespaces/n/finalize", Info{Verb: "update", IsResource: true, Version: "v1", Namespace: "n", Resource: "namespaces", Name: "n", Subresource: "finalize"}},
		{"POST", "/api/v1/namespaces/n/pods", Info{Verb: "create", IsResource: true, Version: "v1", Namespace: "n", Resource: "pods"}},
		{"DELETE", "/api/v1/namespaces/n/pods", Info{Verb: "deletecollection", IsResource: true, Version: "v1", Namespace: "n", Resource: "pods"}},
		{"DELETE", "/api/v1/namespaces/n/pods/p", Info{Verb: "delete", IsResource: true, Version: "v1", Namespace: "n", Resource: "pods", Name: "p"}},
		{"PATCH", "/apis/apps/v1/namespaces/n/deployments/d/scale", Info{Verb: "patch", IsResource: true, Group: "apps", Version: "v1", Namespace: "n", Resource: "deployments", Name: "d", Subresource: "scale"}},
		{"GET", "/api/v1/namespaces/n/pods/p/log?follow=true&watch=true", Info{Verb: "get", IsResource: true, Version: "v1", Namespace: "n", Resource: "pods", Name: "p", Subresource: "log"}},
		{"POST", "/api/v1/namespaces/n/services/s/proxy/a/b", Info{Verb: "create", IsResource: true, Version: "v1", Namespace: "n", Resource: "services", Name: "s", Subresource: "proxy", Rest: "a/b"}},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		c.want.Path = r.URL.Path
		got := *Parse(r)
		got.Selects = nil // see TestSelectors
		if got != c.want {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", c.method, c.path, got, c.want)
		}
	}
}

func TestSelectors(t *testing.T) {
	for _, c := range []struct {
		method, path string
		fields       string
		labels       string
	}{
		{"GET", "/api/v1/pods", "", ""},
		{"GET", "/api/v1/pods?limit=5", "", ""},
		{"GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn", "spec.nodeName = n", ""},
		{"GET", "/api/v1/pods?watch=1&fieldSelector=a%3D%3Db,c!%3Dd&labelSelector=x+in+(y),!z", "a = b c != d", "x in (y) !z"},
		{"DELETE", "/api/v1/namespaces/n/pods?labelSelector=x", "", "x"},
		{"GET", "/api/v1/namespaces/n/pods/p?labelSelector=x", "", ""}, // not a collection
		{"GET", "/api/v1/pods?fieldSelector=a&labelSelector=%3D", "", ""},
		{"GET", "/api/v1/pods?fieldSelector=a%3Db&fieldSelector=c%3Dd", "a = b", ""}, // the first counts, as for the handlers
		{"GET", "/api/v1/pods?fieldSelector=a&labelSelector=x", "", "x"},
	} {
		i := Parse(httptest.NewRequest(c.method, c.path, nil))
		var fields, labels []string
		if i.Selects != nil {
			for _, f := range i.Selects.Fields {
				fields = append(fields, f.Field+" "+string(f.Operator)+" "+f.Value)
			}
			for _, l := range i.Selects.Labels {
				labels = append(labels, l.String())
			}
		}
		if got := strings.Join(fields, " "); got != c.fields {
			t.Errorf("%s: fields %q, want %q", c.path, got, c.fields)
		}
		if got := strings.Join(labels, " "); got != c.labels {
			t.Errorf("%s: labels %q, want %q", c.path, got, c.labels)
		}
	}
	i := Parse(httptest.NewRequest("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn,b!%3Dc", nil))
	if !i.Selects.Field("spec.nodeName", "n") || i.Selects.Field("spec.nodeName", "m") || i.Selects.Field("b", "c") || (*Selectors)(nil).Field("b", "c") {
		t.Error("Field is wrong")
	}
}

func FuzzParse(f *testing.F) {
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}
	f.Add(uint8(0), "/api/v1/namespaces/n/pods/p/log", "watch=1")
	f.Add(uint8(5), "/apis///x", "")
	f.Fuzz(func(t *testing.T, method uint8, path, query string) {
		i := Parse(&http.Request{Method: methods[int(method)%len(methods)], URL: &url.URL{Path: path, RawQuery: query}})
		if i.Verb == "" || i.IsResource && i.Version == "" && !strings.Contains(path, "//") {
			t.Errorf("%q %q: %+v", method, path, i)
		}
	})
}
