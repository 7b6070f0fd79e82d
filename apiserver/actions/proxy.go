package actions

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/nodeproxy"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// proxyVerbs are what a request to somebody else may be, as it is authorized.
var proxyVerbs = []string{"create", "delete", "get", "patch", "update"}

// find settles where a proxied request goes: scheme and host of the target (Path and Prefix are not its business).
type find func(ctx context.Context, namespace string, to address) (nodeproxy.Target, error)

// proxy passes a request on to what find says: RESOURCE/NAME/proxy/PATH.
func (p Parts) proxy(what string, to find) func(http.ResponseWriter, *http.Request, *registry.Resource, *request.Info) error {
	return func(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
		// A kubelet takes us for whom it lets run commands: by a WebSocket, which begins with a GET, who may only read could too.
		if what == "node" && r.Header.Get("Upgrade") != "" {
			if err := p.mayCreate(r.Context(), on, i); err != nil {
				return err
			}
		}
		named, ok := parseAddress(i.Name)
		if !ok {
			return apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", what, i.Name))
		}
		target, err := to(r.Context(), i.Namespace, named)
		if err != nil {
			return err
		}
		whole := r.URL.EscapedPath()
		target.Path = tail(whole, i)
		target.Prefix = strings.TrimSuffix(whole, target.Path)
		if target.Path == "" {
			if upgrade := r.Header.Get("Upgrade"); upgrade == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
				redirect(w, r, whole+"/")
				return nil
			}
			target.Path = "/"
		}
		return p.Kubelets.Forward(w, r, target)
	}
}

// redirect sends the client to the root of what it asked for, since relative links of a page do not work without the slash.
func redirect(w http.ResponseWriter, r *http.Request, path string) {
	if q := r.URL.RawQuery; q != "" {
		path += "?" + q
	}
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusMovedPermanently)
}

// tail is what follows /proxy in an escaped path, with its slashes as they were sent.
func tail(escaped string, i *request.Info) string {
	steps := 5 // api, version, resource, name, proxy
	if i.Namespace != "" {
		steps = 7
	}
	for range steps {
		next := strings.IndexByte(escaped[1:], '/')
		if next < 0 {
			return ""
		}
		escaped = escaped[1+next:]
	}
	return escaped
}

// address is what a name says that is proxied to: [SCHEME:]NAME[:PORT]
// (https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls).
type address struct{ scheme, name, port string }

func parseAddress(text string) (address, bool) {
	var a address
	switch parts := strings.Split(text, ":"); len(parts) {
	case 1:
		a.name = parts[0]
	case 2:
		a.name, a.port = parts[0], parts[1]
	case 3:
		a = address{parts[0], parts[1], parts[2]}
		if a.scheme != "" && a.scheme != "http" && a.scheme != "https" {
			return a, false
		}
	default:
		return a, false
	}
	return a, a.name != ""
}

func (a address) target(host, port string) (nodeproxy.Target, error) {
	if err := nodeproxy.Allowed(host); err != nil {
		return nodeproxy.Target{}, err
	}
	t := nodeproxy.Target{Scheme: cmp.Or(a.scheme, "http")}
	switch {
	case port != "":
		t.Host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		t.Host = "[" + host + "]"
	default:
		t.Host = host
	}
	return t, nil
}

// toPod is a pod's own address, and the first port it declares when none is named.
func (p Parts) toPod(ctx context.Context, namespace string, to address) (nodeproxy.Target, error) {
	pod, err := p.Objects.Pod(ctx, namespace, to.name)
	if err != nil {
		return nodeproxy.Target{}, err
	}
	port := to.port
	for _, c := range pod.Spec.Containers {
		if port == "" && len(c.Ports) > 0 {
			port = strconv.Itoa(int(c.Ports[0].ContainerPort))
		}
	}
	return to.target(pod.Status.PodIP, port)
}

// toService is any of the service's ready endpoints. The port is the name or the number of one of the service's.
func (p Parts) toService(ctx context.Context, namespace string, to address) (nodeproxy.Target, error) {
	service, err := p.Objects.Service(ctx, namespace, to.name)
	if err != nil {
		return nodeproxy.Target{}, err
	}
	name, err := portName(service, to.port)
	if err != nil {
		return nodeproxy.Target{}, err
	}
	slices, err := p.Objects.EndpointSlices(ctx, namespace, to.name)
	if err != nil {
		return nodeproxy.Target{}, err
	}
	host, port, ok := choose(ofFirstFamily(service, slices), name, rand.IntN)
	if !ok {
		host, port, ok = choose(slices, name, rand.IntN)
	}
	if !ok {
		return nodeproxy.Target{}, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", to.name))
	}
	return to.target(host, port)
}

func portName(service *corev1.Service, port string) (string, error) {
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil { // it is a name
		return port, nil
	}
	for _, have := range service.Spec.Ports {
		if int64(have.Port) == number {
			return have.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, service.Name))
}

// ofFirstFamily are the slices of the family that the service has first: this server need not reach the other.
func ofFirstFamily(service *corev1.Service, all []*discoveryv1.EndpointSlice) (of []*discoveryv1.EndpointSlice) {
	for _, s := range all {
		if len(service.Spec.IPFamilies) == 0 || string(s.AddressType) == string(service.Spec.IPFamilies[0]) {
			of = append(of, s)
		}
	}
	return of
}

// choose picks one of the ready endpoints that have the port.
func choose(slices []*discoveryv1.EndpointSlice, name string, random func(int) int) (host, port string, ok bool) {
	type endpoint struct {
		host string
		port int32
	}
	var all []endpoint
	for _, s := range slices {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name == nil && name != "" || p.Name != nil && *p.Name != name {
				continue
			}
			for _, e := range s.Endpoints {
				if ready := e.Conditions.Ready; len(e.Addresses) > 0 && (ready == nil || *ready) {
					all = append(all, endpoint{e.Addresses[0], *p.Port})
				}
			}
		}
	}
	if len(all) == 0 {
		return "", "", false
	}
	e := all[random(len(all))]
	return e.host, strconv.Itoa(int(e.port)), true
}

// toNode is a node's kubelet, or whatever listens on another port of the node.
func (p Parts) toNode(ctx context.Context, _ string, to address) (nodeproxy.Target, error) {
	host, port, err := p.Kubelets.Kubelet(ctx, to.name)
	if err != nil {
		return nodeproxy.Target{}, err
	}
	if to.port == "" || to.port == port {
		return nodeproxy.Target{Scheme: "https", Host: net.JoinHostPort(host, port), Kubelet: true}, nil
	}
	if net.ParseIP(host) == nil { // a name is checked when it is resolved
		return nodeproxy.Target{Scheme: cmp.Or(to.scheme, "http"), Host: net.JoinHostPort(host, to.port)}, nil
	}
	return to.target(host, to.port)
}
