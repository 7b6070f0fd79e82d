package client

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"pilothouse.dev/pkg/pki"
)

// renewing returns a copy of cfg whose certificates and authorities, when they are files, are read again when they change. What is
// under way goes on over the connections that there are; requests that come after a change take new ones. (client-go looks every
// five minutes and then cuts every connection, watches too; until it looks, the API server refuses a certificate that has ended.)
// A cfg without such files is returned as it is.
func renewing(cfg *rest.Config) (*rest.Config, error) {
	files := cfg.TLSClientConfig
	if cfg.Transport != nil || files.CAFile == "" && (files.CertFile == "" || files.KeyFile == "") {
		return cfg, nil
	}
	t := &renewed{cfg: rest.CopyConfig(cfg), files: []string{files.CertFile, files.KeyFile, files.CAFile}, look: time.Second}
	t.stamp = t.stamps()
	first, err := t.make()
	if err != nil {
		return nil, err
	}
	t.now.Store(first)
	t.looked.Store(time.Now().UnixNano())
	cfg = rest.CopyConfig(cfg)
	if !strings.Contains(cfg.Host, "://") {
		cfg.Host = "https://" + cfg.Host
	}
	cfg.TLSClientConfig, cfg.Dial, cfg.Transport = rest.TLSClientConfig{}, nil, t
	return cfg, nil
}

// renewed is a transport by files. Safe for concurrent use.
type renewed struct {
	cfg   *rest.Config // set once
	files []string
	look  time.Duration // between two looks at the files

	now    atomic.Pointer[http.Transport]
	looked atomic.Int64 // when the files were last looked at, ns since 1970

	mu    sync.Mutex // held while looking
	stamp [3]stamp   // guarded by mu: of what was last tried
}

type stamp struct {
	at   time.Time
	size int64
}

func (t *renewed) RoundTrip(r *http.Request) (*http.Response, error) { return t.current().RoundTrip(r) }

// WrappedRoundTripper lets apimachinery find the TLS configuration.
func (t *renewed) WrappedRoundTripper() http.RoundTripper { return t.current() }

// CloseIdleConnections is what http.Client and apimachinery ask of transports.
func (t *renewed) CloseIdleConnections() { t.now.Load().CloseIdleConnections() }

func (t *renewed) current() *http.Transport {
	last, at := t.looked.Load(), time.Now().UnixNano()
	if at-last >= int64(t.look) && t.looked.CompareAndSwap(last, at) {
		t.reload()
	}
	return t.now.Load()
}

func (t *renewed) reload() {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stamps()
	if s == t.stamp {
		return
	}
	t.stamp = s // what is not good is not read again before it changes
	next, err := t.make()
	pki.Reloaded(cmp.Or(t.files...), err)
	if err != nil {
		klog.ErrorS(err, "reading renewed certificates, calling the API server with the former ones")
		return
	}
	// Its connections end as their last requests do.
	t.now.Swap(next).CloseIdleConnections()
}

func (t *renewed) stamps() (s [3]stamp) {
	for i, name := range t.files {
		if st, err := os.Stat(name); err == nil {
			s[i] = stamp{st.ModTime(), st.Size()}
		}
	}
	return s
}

// make makes a transport of the files as they are.
func (t *renewed) make() (*http.Transport, error) {
	cfg := rest.CopyConfig(t.cfg)
	pair := cfg.CertFile != "" && cfg.KeyFile != ""
	var cert tls.Certificate
	if pair {
		var err error
		if cert, err = tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("reading the client certificate %s: %w", cfg.CertFile, err)
		}
		cfg.CertFile, cfg.KeyFile = "", ""
	}
	to, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's authority %s: %w", cfg.CAFile, err)
	}
	if to == nil {
		to = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if pair {
		to.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	proxy := cfg.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return utilnet.SetTransportDefaults(&http.Transport{
		Proxy: proxy, TLSHandshakeTimeout: 10 * time.Second, TLSClientConfig: to, MaxIdleConnsPerHost: 25,
		DialContext: dial, DisableCompression: cfg.DisableCompression,
	}), nil
}
