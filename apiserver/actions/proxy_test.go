package actions

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/nodeproxy"
	"pilothouse.dev/apiserver/request"
)

// world is the objects there are; what it does not have is not found.
type world struct {
	Objects
	pod     *corev1.Pod
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
}

func (w world) Pod(_ context.Context, _, name string) (*corev1.Pod, error) {
	if w.pod == nil || w.pod.Name != name {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	return w.pod, nil
}

func (w world) Service(_ context.Context, _, name string) (*corev1.Service, error) {
	if w.service == nil || w.service.Name != name {
		return nil, apierrors.NewNotFound(corev1.Resource("services"), name)
	}
	return w.service, nil
}

func (w world) EndpointSlices(context.Context, string, string) ([]*discoveryv1.EndpointSlice, error) {
	return w.slices, nil
}

// wire remembers where a request was passed on to.
type wire struct{ to nodeproxy.Target }

func (wire) Serve(http.ResponseWriter, *http.Request, string, string, url.Values) error { return nil }

func (c *wire) Forward(_ http.ResponseWriter, _ *http.Request, t nodeproxy.Target) error {
	c.to = t
	return nil
}

func (wire) Kubelet(_ context.Context, node string) (string, string, error) {
	return map[string]string{"n": "198.18.0.2", "bad": "169.254.0.1", "named": "host.test"}[node], "10250", nil
}

func slice(port string, number int32, ready bool, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{Name: &port, Port: &number}}}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return s
}

func TestProxy(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: corev1.PodStatus{PodIP: "10.0.0.1"}}
	declared := pod.DeepCopy()
	declared.Spec.Containers = []corev1.Container{{}, {Ports: []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 9}}}}
	local := pod.DeepCopy()
	local.Status.PodIP = "127.0.0.1"
	six := pod.DeepCopy()
	six.Status.PodIP = "fd00::1"
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}, {Name: "tls", Port: 443}}}}
	slices := []*discoveryv1.EndpointSlice{slice("web", 8080, true, "10.0.0.2"), slice("web", 8080, false, "10.0.0.3"), slice("tls", 8443, true, "10.0.0.2")}
	nameless := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	for _, c := range []struct {
		name, path string
		world      world
		want       string // scheme, host, path
		code       int32
		words      string
	}{
		{"a pod", "pods/p/proxy/a", world{pod: pod}, "http 10.0.0.1 /a", 0, ""},
		{"its first port", "pods/p/proxy/a", world{pod: declared}, "http 10.0.0.1:8080 /a", 0, ""},
		{"another port", "pods/p:81/proxy/", world{pod: declared}, "http 10.0.0.1:81 /", 0, ""},
		{"with a scheme", "pods/https:p:443/proxy/a/b/", world{pod: pod}, "https 10.0.0.1:443 /a/b/", 0, ""},
		{"IPv6", "pods/p:81/proxy/", world{pod: six}, "http [fd00::1]:81 /", 0, ""},
		{"IPv6 without a port", "pods/p/proxy/", world{pod: six}, "http [fd00::1] /", 0, ""},
		{"escapes and slashes", "pods/p/proxy//a%2Fb//c", world{pod: pod}, "http 10.0.0.1 //a%2Fb//c", 0, ""},
		{"this host", "pods/p/proxy/", world{pod: local}, "", 400, "address not allowed"},
		{"no address yet", "pods/p/proxy/", world{pod: &corev1.Pod{ObjectMeta: pod.ObjectMeta}}, "", 400, "address not allowed"},
		{"no such pod", "pods/q/proxy/", world{pod: pod}, "", 404, `pods "q" not found`},
		{"a bad scheme", "pods/ftp:p:1/proxy/", world{pod: pod}, "", 400, `invalid pod request "ftp:p:1"`},
		{"too much", "services/http:p:1:2/proxy/", world{}, "", 400, `invalid service request "http:p:1:2"`},
		{"a service by name", "services/s:web/proxy/x", world{service: service, slices: slices}, "http 10.0.0.2:8080 /x", 0, ""},
		{"by number", "services/https:s:443/proxy/x", world{service: service, slices: slices}, "https 10.0.0.2:8443 /x", 0, ""},
		{"the only port", "services/s/proxy/x", world{service: nameless, slices: []*discoveryv1.EndpointSlice{slice("", 9376, true, "10.0.0.4")}}, "http 10.0.0.4:9376 /x", 0, ""},
		{"an empty port with a scheme", "services/http:s:/proxy/x", world{service: nameless, slices: []*discoveryv1.EndpointSlice{slice("", 9376, true, "10.0.0.4")}}, "http 10.0.0.4:9376 /x", 0, ""},
		{"no such port number", "services/s:81/proxy/x", world{service: service, slices: slices}, "", 503, `no service port 81 found for service "s"`},
		{"no such port name", "services/s:x/proxy/x", world{service: service, slices: slices}, "", 503, `no endpoints available for service "s"`},
		{"nobody is ready", "services/s:web/proxy/x", world{service: service, slices: slices[1:2]}, "", 503, `no endpoints available for service "s"`},
		{"an endpoint on this host", "services/s:web/proxy/x", world{service: service, slices: []*discoveryv1.EndpointSlice{slice("web", 1, true, "127.0.0.1")}}, "", 400, "address not allowed"},
		{"a node's kubelet", "nodes/n/proxy/logs", world{}, "https 198.18.0.2:10250 /logs kubelet", 0, ""},
		{"by its port", "nodes/http:n:10250/proxy/logs", world{}, "https 198.18.0.2:10250 /logs kubelet", 0, ""},
		{"another port of a node", "nodes/n:9100/proxy/metrics", world{}, "http 198.18.0.2:9100 /metrics", 0, ""},
		{"of a node with a name", "nodes/https:named:9100/proxy/metrics", world{}, "https host.test:9100 /metrics", 0, ""},
		{"of a node that is no host", "nodes/bad:80/proxy/latest", world{}, "", 400, "address not allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := "/api/v1/namespaces/ns/"
			if strings.HasPrefix(c.path, "nodes") {
				base = "/api/v1/"
			}
			to := &wire{}
			p := Parts{Objects: c.world, Kubelets: to}
			r := httptest.NewRequest("GET", base+c.path, nil)
			i := request.Parse(r)
			serve := map[string]func(http.ResponseWriter, *http.Request) error{
				"pods": func(w http.ResponseWriter, r *http.Request) error { return p.proxy("pod", p.toPod)(w, r, nil, i) },
				"services": func(w http.ResponseWriter, r *http.Request) error {
					return p.proxy("service", p.toService)(w, r, nil, i)
				},
				"nodes": func(w http.ResponseWriter, r *http.Request) error { return p.proxy("node", p.toNode)(w, r, nil, i) },
			}[i.Resource]
			err := serve(httptest.NewRecorder(), r)
			if c.code != 0 {
				status, ok := err.(apierrors.APIStatus)
				if !ok || status.Status().Code != c.code || !strings.Contains(err.Error(), c.words) {
					t.Errorf("got %v", err)
				}
				return
			}
			got := to.to.Scheme + " " + to.to.Host + " " + to.to.Path
			if to.to.Kubelet {
				got += " kubelet"
			}
			if err != nil || got != c.want || to.to.Prefix != strings.TrimSuffix(base+c.path, to.to.Path) {
				t.Errorf("got %q under %s, %v", got, to.to.Prefix, err)
			}
		})
	}
}

func TestProxyRedirect(t *testing.T) {
	p := Parts{Objects: world{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: corev1.PodStatus{PodIP: "10.0.0.1"}}}}
	for _, c := range []struct {
		method, query, upgrade string
		code                   int
	}{{"GET", "?a=b", "", 301}, {"HEAD", "", "", 301}, {"POST", "", "", 200}, {"GET", "", "websocket", 200}} {
		to := &wire{}
		p.Kubelets = to
		r := httptest.NewRequest(c.method, "/api/v1/namespaces/ns/pods/p/proxy"+c.query, nil)
		r.Header.Set("Upgrade", c.upgrade)
		w := httptest.NewRecorder()
		if err := p.proxy("pod", p.toPod)(w, r, nil, request.Parse(r)); err != nil || w.Code != c.code {
			t.Errorf("%+v: got %d %v", c, w.Code, err)
		}
		if c.code == 301 && w.Header().Get("Location") != "/api/v1/namespaces/ns/pods/p/proxy/"+c.query || c.code == 200 && to.to.Path != "/" {
			t.Errorf("%+v: to %q, %q", c, w.Header().Get("Location"), to.to.Path)
		}
	}
}

func TestChooseSpreads(t *testing.T) {
	slices := []*discoveryv1.EndpointSlice{slice("", 80, true, "10.0.0.1", "10.0.0.2"), slice("", 80, true, "10.0.0.3"), {}}
	for n, want := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		if host, _, ok := choose(slices, "", func(of int) int {
			if of != 3 {
				t.Errorf("one of %d", of)
			}
			return n
		}); !ok || host != want {
			t.Errorf("got %s, want %s", host, want)
		}
	}
}
