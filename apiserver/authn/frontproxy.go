package authn

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/pki"
)

// FrontProxyConfig says which front proxies are believed when they tell who calls through them
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy).
type FrontProxyConfig struct {
	CAFile string   // who signs their client certificates; empty: none is believed
	Names  []string // their CommonNames; none: any
	// The headers in which they tell; of Users and UIDs the first that has a value counts.
	Users, UIDs, Groups []string
	Extras              []string // prefixes
}

// Check completes the configuration, or says what is wrong with it.
func (c *FrontProxyConfig) Check() error {
	for _, list := range []struct {
		flag  string
		names []string
	}{
		{"username-headers", c.Users}, {"uid-headers", c.UIDs}, {"group-headers", c.Groups}, {"extra-headers-prefix", c.Extras},
	} {
		for i, n := range list.names {
			if n = strings.TrimSpace(n); n == "" {
				return fmt.Errorf("--requestheader-%s: empty header %q", list.flag, list.names[i])
			}
			list.names[i] = http.CanonicalHeaderKey(n)
		}
	}
	switch {
	case c.CAFile == "" && len(c.Names) > 0:
		return errors.New("--requestheader-allowed-names is given without --requestheader-client-ca-file: there is nobody to be named")
	case c.CAFile != "" && len(c.Users) == 0:
		return errors.New("--requestheader-client-ca-file is given without --requestheader-username-headers: name the header that tells the user")
	}
	return nil
}

type frontProxy struct {
	cfg FrontProxyConfig
	ca  *pki.Authorities
}

func newFrontProxy(cfg FrontProxyConfig, told func(error)) (*frontProxy, error) {
	ca, err := pki.NewAuthorities(cfg.CAFile, told)
	if err != nil {
		return nil, err
	}
	return &frontProxy{cfg, ca}, nil
}

// user is whom the proxy names; nil without an error when he names nobody, nil with one when he is not believed.
func (f *frontProxy) user(r *http.Request, now time.Time) (*request.User, error) {
	conn, _ := r.Context().Value(connectionKey{}).(*connection)
	var memory *atomic.Pointer[verdict]
	if conn != nil {
		memory = &conn.proxy
	}
	if v := judge(memory, r.TLS.PeerCertificates, f.ca.Current(now), now, f.proxy); v.err != nil {
		return nil, v.err
	}
	name := first(r.Header, f.cfg.Users)
	if name == "" {
		return nil, nil
	}
	u := &request.User{Name: name, UID: first(r.Header, f.cfg.UIDs)}
	for _, h := range f.cfg.Groups {
		for _, g := range r.Header[h] {
			if g != "" {
				u.Groups = append(u.Groups, g)
			}
		}
	}
	for _, prefix := range f.cfg.Extras {
		for header, values := range r.Header {
			if !hasPrefixFold(header, prefix) {
				continue
			}
			key := strings.ToLower(header[len(prefix):])
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			if u.Extra == nil {
				u.Extra = map[string][]string{}
			}
			u.Extra[key] = append(u.Extra[key], values...)
		}
	}
	return authenticated(u), nil
}

// proxy says whether a certificate that holds is of a proxy that may tell users; there is no user of it.
func (f *frontProxy) proxy(c *x509.Certificate) (*request.User, error) {
	if len(f.cfg.Names) > 0 && !slices.Contains(f.cfg.Names, c.Subject.CommonName) {
		return nil, fmt.Errorf("x509: subject with cn=%s is not in the allowed list", c.Subject.CommonName)
	}
	return nil, nil
}

func (f *frontProxy) clean(h http.Header) {
	for _, list := range [][]string{f.cfg.Users, f.cfg.UIDs, f.cfg.Groups} {
		for _, name := range list {
			delete(h, name)
		}
	}
	for _, prefix := range f.cfg.Extras {
		for name := range h {
			if hasPrefixFold(name, prefix) {
				delete(h, name)
			}
		}
	}
}

func first(h http.Header, names []string) string {
	for _, n := range names {
		if v := h.Get(n); v != "" {
			return v
		}
	}
	return ""
}
