// Package nodeproxy carries a request into the cluster and its answer back: to a node's kubelet (Serve), where logs are passed on
// as they come and upgraded streams (exec, attach, port-forward) byte by byte, and to whatever a proxy subresource names
// (Forward). To kubelets it proves who we are with the API server's kubelet client certificate.
package nodeproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Config is filled from flags.
type Config struct {
	CertFile string // our client certificate
	KeyFile  string
	CAFile   string // who signs kubelets' serving certificates
}

// Nodes finds a node.
type Nodes interface {
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// Proxy reaches kubelets. Safe for concurrent use.
type Proxy struct {
	nodes     Nodes
	transport *http.Transport // to kubelets
	anybody   *http.Transport // to all others
}

// New makes a proxy. The certificate files are read for each handshake, so renewal needs no restart.
func New(cfg Config, nodes Nodes) (*Proxy, error) {
	pool := x509.NewCertPool()
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the kubelets' authority: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the kubelets' authority: %s holds no certificate", cfg.CAFile)
		}
	}
	return &Proxy{nodes: nodes, anybody: toAnybody(), transport: &http.Transport{
		DialContext: dialer(10 * time.Second).DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: pool,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				c, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
				if err != nil {
					return nil, fmt.Errorf("reading the kubelet client certificate: %w", err)
				}
				return &c, nil
			},
		},
		TLSHandshakeTimeout: 10 * time.Second,
		// HTTP/1.1 only: upgrades need it, and an upgraded connection is a stream of its own anyway.
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
	}}, nil
}

// Serve passes the request to path on the kubelet of node, with the given query, and the answer to w. An error is returned
// only when nothing was written.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, node, path string, query url.Values) error {
	n, err := p.nodes.Node(r.Context(), node)
	if err != nil {
		return err
	}
	host, err := address(n)
	if err != nil {
		return err
	}
	var failed error
	proxy := &httputil.ReverseProxy{
		Transport:     p.transport,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = &url.URL{Scheme: "https", Host: host, Path: path, RawQuery: query.Encode()}
			pr.Out.Host = host
			pr.Out.Header.Del("Authorization")
		},
		ModifyResponse: refusal,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(w, r)
	if status := apierrors.APIStatus(nil); errors.As(failed, &status) {
		return failed
	}
	if errors.Is(failed, errNotAllowed) {
		return apierrors.NewBadRequest(errNotAllowed.Error())
	}
	if errors.Is(failed, errRedirect) {
		return apierrors.NewInternalError(errRedirect)
	}
	if failed != nil && r.Context().Err() == nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("reaching the kubelet of node %s at %s: %v", node, host, failed))
	}
	return nil
}

// refusal turns a kubelet's plain refusal into an error that is answered as a Status: clients show the message of nothing else.
func refusal(resp *http.Response) error {
	if redirects(resp) {
		return errRedirect
	}
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("reading the kubelet's refusal: %w", err)
	}
	message := strings.TrimSpace(string(text))
	switch resp.StatusCode {
	case http.StatusBadRequest:
		return apierrors.NewBadRequest(message)
	case http.StatusInternalServerError:
		return apierrors.NewInternalError(errors.New(message))
	}
	e := apierrors.NewGenericServerResponse(resp.StatusCode, "", corev1.Resource("pods"), "", message, 0, false)
	e.ErrStatus.Message = message
	return e
}

// errRedirect keeps a node that was broken into from sending a client elsewhere with what he has to say: a redirected exec would run its
// command in a container of the node's choice (CVE-2020-8559).
var errRedirect = errors.New("the backend attempted to redirect this request, which is not permitted")

func redirects(resp *http.Response) bool {
	return resp.StatusCode >= http.StatusMultipleChoices && resp.StatusCode < http.StatusBadRequest
}

// address is where a node's kubelet listens.
func address(n *corev1.Node) (string, error) {
	port := int(n.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		port = 10250
	}
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeHostName, corev1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type == want {
				return net.JoinHostPort(a.Address, strconv.Itoa(port)), nil
			}
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has no address yet", n.Name))
}
