package hookspec

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func TestValidate(t *testing.T) {
	at := field.NewPath("c")
	service := func(path string, port int32) *Service { return &Service{"ns", "name", &path, &port} }
	for _, c := range []struct {
		name    string
		url     *string
		service *Service
		want    []string
	}{
		{"url", ptr.To("https://example.com/a?"), nil, nil},
		{"service", nil, service("/a/b/", 443), nil},
		{"no path", nil, service("", 443), nil},
		{"neither", nil, nil, []string{"c: Required value"}},
		{"both", ptr.To("https://a"), service("/", 1), []string{"c: Required value"}},
		{"http", ptr.To("http://a"), nil, []string{"c.url: Invalid value"}},
		{"no url", ptr.To("https://a:b:c%"), nil, []string{"c.url: Required value"}},
		{"everything in it", ptr.To("https://me:you@?a=b#c"), nil, []string{"c.url: Invalid value", "c.url: Invalid value", "c.url: Invalid value", "c.url: Invalid value"}},
		{"nothing in it", nil, &Service{}, []string{"c.service.name: Required value", "c.service.namespace: Required value"}},
		{"port", nil, service("/", 0), []string{"c.service.port: Invalid value"}},
		{"relative", nil, service("a", 1), []string{"c.service.path: Invalid value"}},
		{"empty steps", nil, service("//a//b", 1), []string{"c.service.path: Invalid value", "c.service.path: Invalid value"}},
		{"bad step", nil, service("/A", 1), []string{"c.service.path: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, e := range Validate(c.url, c.service, at) {
				got = append(got, e.Field+": "+e.Type.String())
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
