package nodeproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Target is where a proxied request goes.
type Target struct {
	Scheme string // http or https
	Host   string // with a port, unless the scheme's own is meant
	Path   string // escaped; begins with a slash
	// Prefix is the path of this server, escaped, under which a client sees the target's root.
	Prefix string
	// Kubelet says that the target is a kubelet: we prove who we are and want it to prove who it is. Anybody else is not told, and
	// a certificate of his is taken as it is: there is no authority that pods' certificates come from.
	Kubelet bool
}

// cors are what the target may say to browsers about its own origin, which is not the one they see.
var cors = []string{
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
	"Access-Control-Allow-Credentials", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
}

// Forward passes a request on whole, but for who asks, and its answer back: redirects and the links of HTML pages are made to
// lead through this server again (https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/). An error
// is returned only when nothing was written.
func (p *Proxy) Forward(w http.ResponseWriter, r *http.Request, t Target) error {
	path, err := url.PathUnescape(t.Path)
	if err != nil {
		return apierrors.NewBadRequest("unescaping the path: " + err.Error())
	}
	to := &url.URL{Scheme: t.Scheme, Host: t.Host, Path: path, RawPath: t.Path, RawQuery: r.URL.RawQuery}
	transport := p.anybody
	if t.Kubelet {
		transport = p.transport
	}
	var failed error
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = to
			pr.Out.Host = pr.In.Host
			pr.Out.Header.Del("Authorization")
			pr.SetXForwarded()
			pr.Out.Header.Set("X-Forwarded-Uri", t.Prefix+t.Path)
		},
		ModifyResponse: func(resp *http.Response) error {
			if r.Header.Get("Upgrade") != "" && redirects(resp) {
				return errRedirect
			}
			for _, name := range cors {
				resp.Header.Del(name)
			}
			return links{prefix: t.Prefix, target: t.Host, self: r.Host}.rewrite(resp)
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(w, r)
	if errors.Is(failed, errNotAllowed) {
		return apierrors.NewBadRequest(errNotAllowed.Error())
	}
	if errors.Is(failed, errRedirect) {
		return apierrors.NewInternalError(errRedirect)
	}
	if failed != nil && r.Context().Err() == nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", failed))
	}
	return nil
}

// errNotAllowed says that nobody in the cluster can have that address, so whoever wrote it wants something else.
var errNotAllowed = errors.New("address not allowed")

// Allowed checks an address that came out of an object: this server's own host and link, and what is no address of one host, are
// not the cluster's. The error is a 400.
func Allowed(address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil || !proxyable(ip) {
		return apierrors.NewBadRequest(errNotAllowed.Error())
	}
	return nil
}

func proxyable(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsGlobalUnicast() && ip.Zone() == ""
}

// Kubelet is where a node's kubelet listens: host and port. The node must exist (else an apierrors NotFound) and have an address.
func (p *Proxy) Kubelet(ctx context.Context, node string) (host, port string, err error) {
	n, err := p.nodes.Node(ctx, node)
	if err != nil {
		return "", "", err
	}
	all, err := address(n)
	if err != nil {
		return "", "", err
	}
	return net.SplitHostPort(all)
}

// dialer dials nobody but what may be in the cluster: a name is checked when it is resolved, before anything is sent. It holds for
// kubelets too, whose addresses are what they say themselves.
func dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		if to, err := netip.ParseAddrPort(address); err != nil || !proxyable(to.Addr()) {
			return errNotAllowed
		}
		return nil
	}}
}

// toAnybody is the transport to pods, endpoints and whatever else listens on a node.
func toAnybody() *http.Transport {
	return &http.Transport{
		DialContext:         dialer(30 * time.Second).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true},
		TLSHandshakeTimeout: 10 * time.Second, DisableCompression: true,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // upgrades need HTTP/1.1
		MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
	}
}
