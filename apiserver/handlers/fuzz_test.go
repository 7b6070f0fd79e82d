package handlers

import (
	"net/http"
	"net/url"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// FuzzSelectors reads the query of lists and watches: selectors, revisions, limits. What is taken can be asked of any object, and
// what is not is the client's error.
func FuzzSelectors(f *testing.F) {
	pods := registry.Define(registry.Kind[*corev1.Pod]{Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true, FieldNames: []string{"spec.nodeName"},
		Fields: func(p *corev1.Pod) fields.Set { return fields.Set{"spec.nodeName": p.Spec.NodeName} }})
	for _, q := range [][2]string{
		{"a=b,c!=d,e in (f,g),h notin (i),j,!k", "metadata.name=a,spec.nodeName!=b"}, {"a in (", "spec.x=1"}, {"a>1,b<2", "metadata.namespace==x"},
		{"x/y=z", `spec.nodeName=a\,b\=c\\`}, {",,", "=,="}, {"a=" + string(rune(0)), "metadata.name=" + string(rune(0xfffd))},
	} {
		f.Add(q[0], q[1], "resourceVersion=5&limit=3", true)
		f.Add(q[0], q[1], "resourceVersion=0&resourceVersionMatch=Exact&watch=true", false)
		f.Add(q[0], q[1], "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&watch=1&timeoutSeconds=9223372036854775807", true)
	}
	all := entries(f, 3)
	f.Fuzz(func(t *testing.T, labels, fields, rest string, watch bool) {
		query := "labelSelector=" + url.QueryEscape(labels) + "&fieldSelector=" + url.QueryEscape(fields) + "&" + rest
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/api/v1/pods", RawQuery: query}}
		info := request.Parse(r)
		o, sel, err := listOptions(r, pods, info)
		if err == nil && watch {
			var wo storage.WatchOptions
			wo, err = watchOptions(o, sel)
			sel = wo.Selector
		} else if err == nil {
			_, err = readOf(o)
		}
		if err != nil {
			if !apierrors.IsBadRequest(err) && !apierrors.IsInvalid(err) {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, e := range all {
			sel.Matches(e)
		}
	})
}
