package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const (
	tableOf   = ";as=Table;v=v1;g=meta.k8s.io"
	partialOf = ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
	listOf    = ";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
	js        = "application/json"
	proto     = "application/vnd.kubernetes.protobuf"
	allMedia  = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor"
)

// decode reads a body by its Content-Type with what clients have.
func decode(t *testing.T, r reply) runtime.Object {
	t.Helper()
	all := runtime.NewScheme()
	if err := scheme.AddToScheme(all); err != nil {
		t.Fatal(err)
	}
	if err := metav1.AddMetaToScheme(all); err != nil {
		t.Fatal(err)
	}
	body := []byte(r.body)
	var obj runtime.Object
	var err error
	switch media, _, _ := strings.Cut(r.header.Get("Content-Type"), ";"); media {
	case proto:
		obj, _, err = protobuf.NewSerializer(all, all).Decode(body, nil, nil)
	case "application/cbor":
		obj, _, err = cbor.NewSerializer(all, all).Decode(body, nil, nil)
	case "application/yaml":
		if body, err = yaml.YAMLToJSON(body); err != nil {
			t.Fatal(err)
		}
		fallthrough
	default:
		obj, _, err = serializer.NewCodecFactory(all).UniversalDeserializer().Decode(body, nil, nil)
	}
	if err != nil {
		t.Fatalf("decoding %s: %v: %.200q", r.header.Get("Content-Type"), err, r.body)
	}
	return obj
}

// testNegotiation asks for every shape in every media type.
func testNegotiation(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	a.must(t, 201, "POST", path, `{"metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}`)
	for _, c := range []struct {
		path, accept string
		code         int
		media, want  string // of the answer: Content-Type, and Go type or text of the error
	}{
		{path + "/a", "", 200, js, "*v1.ConfigMap"},
		{path + "/a", "*/*", 200, js, "*v1.ConfigMap"},
		{path + "/a", "text/html,application/xhtml+xml,*/*;q=0.8", 200, js, "*v1.ConfigMap"},
		{path + "/a", "application/yaml", 200, "application/yaml", "*v1.ConfigMap"},
		{path + "/a", proto, 200, proto, "*v1.ConfigMap"},
		{path + "/a", "application/cbor", 200, "application/cbor", "*v1.ConfigMap"},
		{path + "/a", proto + ";q=0.3, application/yaml;q=0.7", 200, "application/yaml", "*v1.ConfigMap"},
		{path + "/a", "image/png," + js + partialOf, 200, js, "*v1.PartialObjectMetadata"},
		{path + "/a", proto + partialOf, 200, proto, "*v1.PartialObjectMetadata"},
		{path + "/a", "application/cbor" + partialOf, 200, "application/cbor", "*v1.PartialObjectMetadata"},
		{path + "/a", js + tableOf, 200, js, "*v1.Table"},
		{path + "/a", "application/yaml" + tableOf, 200, "application/yaml", "*v1.Table"},
		{path + "/a", js + listOf, 406, js, "you requested PartialObjectMetadataList, but the requested object is not a list (*v1.ConfigMap)"},
		{path + "/a", proto + tableOf, 406, js, "only the following media types are accepted: " + allMedia},
		{path + "/a", js + ";as=Table;v=v1beta1;g=meta.k8s.io", 406, js, "only the following media types are accepted: " + allMedia},
		{path + "/a", js + ";q=0", 406, js, "only the following media types are accepted: " + allMedia},
		{path + "/a", "text/plain", 406, js, "only the following media types are accepted: " + allMedia},
		{path + "/a", proto + tableOf + "," + js + tableOf + ";q=0.9," + js + ";q=0.1", 200, js, "*v1.Table"},
		{path, proto, 200, proto, "*v1.ConfigMapList"},
		{path, "application/yaml", 200, "application/yaml", "*v1.ConfigMapList"},
		{path, "application/cbor", 200, "application/cbor", "*v1.ConfigMapList"},
		{path, js + listOf, 200, js, "*v1.PartialObjectMetadataList"},
		{path, proto + listOf, 200, proto, "*v1.PartialObjectMetadataList"},
		{path, "application/cbor" + listOf, 200, "application/cbor", "*v1.PartialObjectMetadataList"},
		{path, "application/yaml" + listOf, 200, "application/yaml", "*v1.PartialObjectMetadataList"},
		{path, js + partialOf, 406, js, "you requested PartialObjectMetadata, but the requested object is a list (*v1.ConfigMapList)"},
		{path, js + tableOf, 200, js, "*v1.Table"},
		{path + "?watch=1", "application/yaml", 406, "application/yaml", "application/json;stream=watch"},
		{path + "/none", proto, 404, proto, `configmaps "none" not found`},
		{path + "/none", "application/cbor", 404, "application/cbor", `configmaps "none" not found`},
		{path + "/none", js + tableOf, 404, js, `configmaps "none" not found`},
		{path + "?includeObject=All", js + tableOf, 400, js, `Unable to convert to Table as requested: includeObject: Unsupported value: "All": supported values: "Metadata", "None", "Object"`},
	} {
		r := a.raw(t, "GET", c.path, "", "Accept", c.accept)
		obj := decode(t, r)
		got := fmt.Sprintf("%T", obj)
		if s, ok := obj.(*metav1.Status); ok {
			got = s.Message
		} else if l, err := meta.ListAccessor(obj); err == nil && l.GetResourceVersion() == "" {
			t.Errorf("%s as %q: no resourceVersion", c.path, c.accept)
		}
		if r.code != c.code || r.header.Get("Content-Type") != c.media || got != c.want && (c.code == 200 || !strings.Contains(got, c.want)) {
			t.Errorf("%s as %q: %d %s %s", c.path, c.accept, r.code, r.header.Get("Content-Type"), got)
		}
	}
	for include, want := range map[string]string{"None": "<nil>", "Metadata": "PartialObjectMetadata", "Object": "ConfigMap", "": "PartialObjectMetadata"} {
		m := a.must(t, 200, "GET", path+"?includeObject="+include, "", "Accept", js+tableOf)
		if got := fmt.Sprint(at(m, "rows.0.object.kind")); got != want {
			t.Errorf("includeObject=%s: %s", include, got)
		}
	}
	for _, c := range []struct {
		query, agent string
		pretty       bool
	}{{"", "kubectl", false}, {"", "curl/8.0", true}, {"", "Mozilla/5.0 (x)", true}, {"?pretty=1", "kubectl", true}, {"?pretty=false", "curl/8.0", false}} {
		for _, p := range []string{path, path + "/a", path + "/none"} {
			r := a.raw(t, "GET", p+c.query, "", "User-Agent", c.agent)
			if got := strings.Contains(r.body, "\n  \"kind\""); got != c.pretty {
				t.Errorf("%s for %s: %.100s", p+c.query, c.agent, r.body)
			}
		}
	}
	r := a.raw(t, "POST", path, "x", "Content-Type", "text/csv")
	if s := decode(t, r).(*metav1.Status); r.code != 415 || s.Reason != metav1.StatusReasonUnsupportedMediaType ||
		s.Message != "the body of the request was in an unknown format - accepted media types include: "+allMedia {
		t.Errorf("unknown body: %d %+v", r.code, s)
	}
	cm := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "cbor"}, Data: map[string]string{"k": "v"}}
	var body bytes.Buffer
	if err := cbor.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(cm, &body); err != nil {
		t.Fatal(err)
	}
	r = a.raw(t, "POST", path, body.String(), "Content-Type", "application/cbor", "Accept", "application/cbor")
	if made, ok := decode(t, r).(*corev1.ConfigMap); r.code != 201 || !ok || made.UID == "" || made.Data["k"] != "v" {
		t.Errorf("create in CBOR: %d %q", r.code, r.body)
	}
}

// raw is do that does not look at the answer.
func (a *api) raw(t *testing.T, method, path, body string, header ...string) reply {
	t.Helper()
	r, err := a.try(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// testGzip holds who gets compressed answers: who asks, for long ones.
func testGzip(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	for i := range 40 {
		a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":"c%d"},"data":{"k":%q}}`, i, strings.Repeat("x", 4000)))
	}
	a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":"long"},"data":{"k":%q}}`, strings.Repeat("y", 200000)))
	for _, accept := range []string{js, proto, "application/yaml", "application/cbor", js + tableOf, js + listOf} {
		for _, c := range []struct {
			path, coding string
			zipped       bool
		}{
			{path, "gzip", true}, {path, "", false}, {path, "br;q=1, gzip;q=0.2", true}, {path, "gzip;q=0", false},
			{path + "?limit=3", "gzip", false}, {path + "/long", "gzip", true}, {path + "/c1", "gzip", false},
		} {
			if strings.Contains(accept, "as=") && c.path != path {
				continue
			}
			want := a.raw(t, "GET", c.path, "", "Accept", accept, "Accept-Encoding", "identity")
			got := a.raw(t, "GET", c.path, "", "Accept", accept, "Accept-Encoding", c.coding)
			// Metadata and cells alone are not long.
			zipped := c.zipped && len(want.body) > 128<<10
			if z := got.header.Get("Content-Encoding") == "gzip"; z != zipped || z != (got.header.Get("Vary") == "Accept-Encoding") {
				t.Errorf("%s as %s with %q: %v", c.path, accept, c.coding, got.header)
				continue
			}
			if zipped {
				z, err := gzip.NewReader(strings.NewReader(got.body))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(z)
				if err != nil {
					t.Fatal(err)
				}
				got.body = string(b)
			} else if got.header.Get("Content-Length") != strconv.Itoa(len(got.body)) && c.coding == "gzip" {
				t.Errorf("%s as %s: Content-Length %q of %d", c.path, accept, got.header.Get("Content-Length"), len(got.body))
			}
			if strip(got.body) != strip(want.body) {
				t.Errorf("%s as %s with %q: %d bytes, not the %d of a plain answer", c.path, accept, c.coding, len(got.body), len(want.body))
			}
		}
	}
}

// strip takes the digits out of a body, since lists may be of different revisions.
func strip(body string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, body)
}

// testReads is the table of the API concepts: which resourceVersion, match, limit and continue may stand together and what they read.
func testReads(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	rv := func(m map[string]any) string { return at(m, "metadata.resourceVersion").(string) }
	one := rv(a.must(t, 201, "POST", path, `{"metadata":{"name":"a"}}`))
	two := rv(a.must(t, 201, "POST", path, `{"metadata":{"name":"b"}}`))
	three := rv(a.must(t, 201, "POST", path, `{"metadata":{"name":"c","labels":{"x":"y"}}}`))
	next := at(a.must(t, 200, "GET", path+"?limit=1", ""), "metadata.continue").(string)
	far := "9007199254740993"
	forbidden := `ListOptions.meta.k8s.io "" is invalid: `
	for _, c := range []struct {
		query string
		code  int
		want  string // the names, or the error
	}{
		{"", 200, "a b c"},
		{"limit=2", 200, "a b …1"},
		{"limit=0", 200, "a b c"},
		{"limit=-1", 200, "a b c"},
		{"resourceVersion=0", 200, "a b c"},
		{"resourceVersion=0&resourceVersionMatch=NotOlderThan", 200, "a b c"},
		{"resourceVersion=0&limit=2", 200, "a b …1"},
		{"resourceVersion=" + one, 200, "a b c"},
		{"resourceVersion=" + one + "&resourceVersionMatch=NotOlderThan", 200, "a b c"},
		{"resourceVersion=" + one + "&resourceVersionMatch=Exact", 200, "a"},
		{"resourceVersion=" + two + "&resourceVersionMatch=Exact", 200, "a b"},
		{"resourceVersion=" + two + "&resourceVersionMatch=Exact&limit=1", 200, "a …1"},
		{"resourceVersion=" + two + "&limit=1", 200, "a …1"},
		{"resourceVersion=" + two + "&limit=1&resourceVersionMatch=NotOlderThan", 200, "a …2"},
		{"resourceVersion=" + three, 200, "a b c"},
		{"labelSelector=x", 200, "c"},
		{"labelSelector=!x&limit=1", 200, "a …"}, // no remainingItemCount beside a selector
		{"fieldSelector=metadata.name%3Db", 200, "b"},
		{"fieldSelector=metadata.name!%3Db", 200, "a c"},
		{"fieldSelector=metadata.name%3Db,metadata.namespace%3D" + ns, 200, "b"},
		{"fieldSelector=metadata.name%3Db,metadata.name%3Dc", 200, ""},
		{"fieldSelector=metadata.name%3Dnobody", 200, ""},
		{"continue=" + next, 200, "b c"},
		{"continue=" + next + "&limit=1", 200, "b …1"},
		{"continue=" + next + "&resourceVersion=0", 200, "b c"},
		{"continue=" + next + "&resourceVersion=" + one, 400, "specifying resource version is not allowed when using continue"},
		{"continue=" + next + "&resourceVersion=0&resourceVersionMatch=NotOlderThan", 422, forbidden + "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"},
		{"continue=" + next[:len(next)-2], 400, "invalid continue token: continue key is not valid"},
		{"continue=" + base64.RawURLEncoding.EncodeToString([]byte(`{"v":"meta.k8s.io/v1","rv":5,"start":"../secrets/x"}`)), 400, "invalid continue token: continue key is not valid"},
		{"resourceVersionMatch=Exact", 422, forbidden + "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"resourceVersionMatch=NotOlderThan", 422, forbidden + "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"resourceVersion=0&resourceVersionMatch=Exact", 422, forbidden + `resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"`},
		{"resourceVersion=" + one + "&resourceVersionMatch=Newest", 422, forbidden + `resourceVersionMatch: Unsupported value: "Newest": supported values: "Exact", "NotOlderThan", ""`},
		{"sendInitialEvents=true", 422, forbidden + "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"},
		{"resourceVersion=abc", 400, `invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax`},
		{"resourceVersion=-1", 400, `invalid resource version: resourceVersion: Invalid value: "-1"`},
		{"resourceVersion=" + far, 504, "Timeout: Too large resource version: " + far + ", current: "},
		{"resourceVersion=" + far + "&resourceVersionMatch=Exact", 504, "Timeout: Too large resource version: " + far + ", current: "},
		{"limit=x", 400, `strconv.ParseInt: parsing "x": invalid syntax`},
		{"timeoutSeconds=soon", 400, `strconv.ParseInt: parsing "soon": invalid syntax`},
		{"labelSelector=" + url.QueryEscape("a in"), 400, `unable to parse requirement: found '' expected: '('`},
		{"labelSelector=" + url.QueryEscape("-a=b"), 400, `unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of alphanumeric characters`},
		{"labelSelector=" + url.QueryEscape("a=="+strings.Repeat("b", 64)), 400, `unable to parse requirement: values[0][a]: Invalid value: "` + strings.Repeat("b", 64) + `": must be no more than 63 bytes`},
		{"fieldSelector=nothing", 400, `invalid selector: 'nothing'; can't understand 'nothing'`},
		{"fieldSelector=data.k%3Dv", 400, `"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"`},
	} {
		t.Run(c.query, func(t *testing.T) {
			r := a.do(t, "GET", path+"?"+c.query, "")
			got := r.status.Message
			if r.code == 200 {
				l := decode(t, r).(*corev1.ConfigMapList)
				var names []string
				for _, i := range l.Items {
					names = append(names, i.Name)
				}
				if l.Continue != "" {
					names = append(names, "…")
					if l.RemainingItemCount != nil {
						names[len(names)-1] += fmt.Sprint(*l.RemainingItemCount)
					}
				}
				if got = strings.Join(names, " "); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
			}
			if r.code != c.code || !strings.HasPrefix(got, c.want) {
				t.Errorf("got %d %s, want %d %s", r.code, got, c.code, c.want)
			}
			if r.code == 504 && (r.status.Details == nil || r.status.Details.RetryAfterSeconds != 1 || r.header.Get("Retry-After") != "1" ||
				r.status.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge) {
				t.Errorf("details %+v, header %v", r.status.Details, r.header)
			}
		})
	}
	if r := a.do(t, "GET", "/api/v1/pods?fieldSelector=spec.nope%3Dv", ""); r.code != 400 || r.status.Message != "field label not supported: spec.nope" {
		t.Errorf("a field that pods do not have: %d %s", r.code, r.status.Message)
	}
	for query, code := range map[string]int{"": 200, "?resourceVersion=0": 200, "?resourceVersion=" + one: 200, "?resourceVersion=x": 400, "?resourceVersion=" + far: 504} {
		if r := a.do(t, "GET", path+"/a"+query, ""); r.code != code {
			t.Errorf("get %s: %d %s", query, r.code, r.status.Message)
		}
	}
	// The client's own way through pages.
	c, err := rest.RESTClientFor(func() *rest.Config {
		c := a.Config("admin", "system:masters")
		c.GroupVersion, c.NegotiatedSerializer, c.APIPath = &corev1.SchemeGroupVersion, scheme.Codecs.WithoutConversion(), "/api"
		return c
	}())
	if err != nil {
		t.Fatal(err)
	}
	l := &corev1.ConfigMapList{}
	if err := c.Get().Namespace(ns).Resource("configmaps").VersionedParams(&metav1.ListOptions{Limit: 2}, scheme.ParameterCodec).Do(t.Context()).Into(l); err != nil || len(l.Items) != 2 || l.Continue == "" {
		t.Errorf("a client's page: %v %d", err, len(l.Items))
	}
}
