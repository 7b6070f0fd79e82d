package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
)

// plainly is an HTTP client with the row's rights that does not go where it is sent.
type plainly struct {
	*row
	base   string
	client *http.Client
}

func (r *row) plainly() *plainly {
	r.Helper()
	base, _, err := rest.DefaultServerUrlFor(r.config)
	r.must(err, "reading the server's address")
	transport, err := rest.TransportFor(r.config)
	r.must(err, "making a transport")
	return &plainly{row: r, base: strings.TrimSuffix(base.String(), "/"), client: &http.Client{
		Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// do makes one request and reads the answer.
func (p *plainly) do(method, path, body string) (resp *http.Response, text string, err error) {
	req, err := http.NewRequestWithContext(p.ctx, method, p.base+path, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if resp, err = p.client.Do(req); err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return resp, string(all), err
}

// proxied starts a pod that tells how it was asked, and a service of it, and gives the paths under which each is proxied.
func (r *row) proxied() (paths []string) {
	r.Helper()
	ns := r.namespace()
	pod := answering("witness", "proxied", "-json", "80=foo")
	r.several(ns, pod)
	r.service(ns, "test-service", "proxied", nil, port("", 80, 80, corev1.ProtocolTCP))
	r.endpointsAre(ns, "test-service", "witness:80")
	base := "/api/v1/namespaces/" + ns
	return []string{base + "/pods/witness/proxy", base + "/services/test-service/proxy"}
}

// witnessed is what the pod of proxied answers.
type witnessed struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Query  string `json:"query"`
	Sent   string `json:"sent"`
	Body   string `json:"body"`
}

// passed waits until a request reaches the pod behind the proxy as it was sent.
func (p *plainly) passed(method, path, body string, want witnessed) {
	p.Helper()
	p.settles(method+" "+path+" is passed on", func() (bool, error) {
		resp, text, err := p.do(method, path, body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return false, fmt.Errorf("it is answered by %v %q, %w", resp, text, err)
		}
		if method == http.MethodHead {
			return true, nil
		}
		var got witnessed
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			return false, fmt.Errorf("reading %q: %w", text, err)
		}
		return got == want, fmt.Errorf("the pod says that it was asked %+v, want %+v", got, want)
	})
}

// NET-023: requests of every method to the root of a pod and of a service are passed on; one that a page is read by is first sent to the
// root's path, which ends with a slash.
func proxyRoots(r *row) {
	p := r.plainly()
	for _, path := range r.proxied() {
		for _, method := range []string{"DELETE", "OPTIONS", "PATCH", "POST", "PUT"} {
			p.passed(method, path+"?method="+method, "", witnessed{Method: method, Path: "/", Query: "method=" + method, Body: "foo"})
		}
		for _, method := range []string{"GET", "HEAD"} {
			resp, _, err := p.do(method, path+"?method="+method, "")
			r.must(err, method+" "+path)
			r.equal(method+" "+path+": status", resp.StatusCode, http.StatusMovedPermanently)
			r.equal(method+" "+path+": where to", resp.Header.Get("Location"), path+"/?method="+method)
			p.passed(method, path+"/?method="+method, "", witnessed{Method: method, Path: "/", Query: "method=" + method, Body: "foo"})
		}
	}
}

// NET-024: so are those to paths, with what they send.
func proxyPaths(r *row) {
	p := r.plainly()
	for _, path := range r.proxied() {
		for _, method := range []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"} {
			p.passed(method, path+"/some/path/with/"+method, "", witnessed{Method: method, Path: "/some/path/with/" + method, Body: "foo"})
		}
		for _, method := range []string{"DELETE", "PATCH", "POST", "PUT"} {
			p.passed(method, path+"/some/a%20b/?q=%2F&q=2", "what is sent", witnessed{Method: method, Path: "/some/a b/", Query: "q=%2F&q=2", Sent: "what is sent", Body: "foo"})
		}
	}
}

// NET-025: a service's ports are proxied by name and by number, a pod's by number, over HTTP and HTTPS, and links of pages lead through the
// proxy; 20 times each, all at once.
func proxyPorts(r *row) {
	ns := r.namespace()
	const page, secretPage = `<a href="/rewriteme">test</a>`, `<a href="/tlsrewriteme">test</a>`
	pod := answering("porter", "porter", "80="+page, "1080="+page, "160=foo", "162=bar", "tls:443="+secretPage, "tls:460=tls baz", "tls:462=tls qux")
	c := &pod.Spec.Containers[0]
	c.Ports = []corev1.ContainerPort{{ContainerPort: 80}, {Name: "dest1", ContainerPort: 160}, {Name: "dest2", ContainerPort: 162}, {Name: "tlsdest1", ContainerPort: 460}, {Name: "tlsdest2", ContainerPort: 462}}
	c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 5, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}}
	r.several(ns, pod)
	byName := func(name string, number int32, target string) corev1.ServicePort {
		s := port(name, number, 0, corev1.ProtocolTCP)
		s.TargetPort = intstr.FromString(target)
		return s
	}
	r.service(ns, "proxy-service", "porter", nil, byName("portname1", 80, "dest1"), port("portname2", 81, 162, corev1.ProtocolTCP),
		byName("tlsportname1", 443, "tlsdest1"), port("tlsportname2", 444, 462, corev1.ProtocolTCP))
	r.endpointsAre(ns, "proxy-service", "porter:160", "porter:162", "porter:460", "porter:462")

	services, pods := "/api/v1/namespaces/"+ns+"/services/", "/api/v1/namespaces/"+ns+"/pods/"
	want := map[string]string{}
	for _, scheme := range []string{"", "http:"} {
		want[services+scheme+"proxy-service:portname1/proxy/"] = "foo"
		want[services+scheme+"proxy-service:80/proxy/"] = "foo"
		want[services+scheme+"proxy-service:portname2/proxy/"] = "bar"
		want[services+scheme+"proxy-service:81/proxy/"] = "bar"
		want[pods+scheme+"porter:160/proxy/"] = "foo"
		want[pods+scheme+"porter:162/proxy/"] = "bar"
		want[pods+scheme+"porter:1080/proxy/"] = `<a href="` + pods + scheme + `porter:1080/proxy/rewriteme">test</a>`
	}
	want[services+"https:proxy-service:tlsportname1/proxy/"] = "tls baz"
	want[services+"https:proxy-service:443/proxy/"] = "tls baz"
	want[services+"https:proxy-service:tlsportname2/proxy/"] = "tls qux"
	want[services+"https:proxy-service:444/proxy/"] = "tls qux"
	want[pods+"porter/proxy/"] = `<a href="` + pods + `porter/proxy/rewriteme">test</a>` // the first port that it declares
	want[pods+"https:porter:443/proxy/"] = `<a href="` + pods + `https:porter:443/proxy/tlsrewriteme">test</a>`
	want[pods+"https:porter:460/proxy/"] = "tls baz"
	want[pods+"https:porter:462/proxy/"] = "tls qux"

	p := r.plainly()
	var all sync.WaitGroup
	for range 20 {
		for path, text := range want {
			all.Go(func() {
				began := time.Now()
				resp, got, err := p.do("GET", path, "")
				switch {
				case err != nil:
					r.Errorf("%s: %v", path, err)
				case resp.StatusCode != http.StatusOK || got != text:
					r.Errorf("%s: got %s %q, want %q", path, resp.Status, got, text)
				case time.Since(began) > patience:
					r.Errorf("%s took %v", path, time.Since(began))
				}
			})
		}
		all.Wait()
		if r.Failed() {
			return
		}
	}
	p.refusals(services, pods)
	p.nodes()
}

// refusals are of what is not there: as Statuses, which say why.
func (p *plainly) refusals(services, pods string) {
	p.Helper()
	for path, want := range map[string]int{
		services + "proxy-service:none/proxy/":   http.StatusServiceUnavailable,
		services + "proxy-service:82/proxy/":     http.StatusServiceUnavailable,
		services + "nobody:80/proxy/":            http.StatusNotFound,
		services + "ftp:proxy-service:80/proxy/": http.StatusBadRequest,
		pods + "porter:1/proxy/":                 http.StatusServiceUnavailable,
		pods + "nobody/proxy/":                   http.StatusNotFound,
	} {
		resp, text, err := p.do("GET", path, "")
		p.must(err, "GET "+path)
		var s metav1.Status
		if err := json.NewDecoder(bytes.NewBufferString(text)).Decode(&s); err != nil || resp.StatusCode != want || int(s.Code) != want || s.Message == "" {
			p.Errorf("%s: got %s %q, want a Status of %d", path, resp.Status, text, want)
		}
	}
}

// nodes are proxied to their kubelets, with and without the port.
func (p *plainly) nodes() {
	p.Helper()
	for _, n := range p.places() {
		for _, port := range []string{"", ":10250"} {
			path := "/api/v1/nodes/" + n.name + port + "/proxy/healthz"
			resp, text, err := p.do("GET", path, "")
			p.must(err, "GET "+path)
			if resp.StatusCode != http.StatusOK || text != "ok" {
				p.Errorf("%s: got %s %q", path, resp.Status, text)
			}
		}
	}
}
