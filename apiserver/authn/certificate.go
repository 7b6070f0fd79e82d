package authn

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/pki"
)

// certificates tells callers by their client certificates: CommonName is the user, Organizations are the groups
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates). TLS has proved that the caller
// has the key; who signed the certificate is verified here, so that one that is not good is answered in HTTP.
type certificates struct {
	ca   *pki.Authorities
	left prometheus.Observer // hears how long each certificate still lives
}

func newCertificates(caFile string, told func(error), left prometheus.Observer) (*certificates, error) {
	ca, err := pki.NewAuthorities(caFile, told)
	if err != nil {
		return nil, err
	}
	return &certificates{ca, left}, nil
}

// verdict is what is known of a certificate.
type verdict struct {
	leaf  *x509.Certificate
	by    *pki.Bundle // the authorities it was held against
	until time.Time   // it must be verified anew then
	user  *request.User
	err   error
}

// connection remembers what was found out about a connection's certificate, so that it is verified once and not at each request.
type connection struct{ client, proxy atomic.Pointer[verdict] }

type connectionKey struct{}

// Remember makes the context of a connection, to be given to http.Server.ConnContext. Without it every request costs a verification.
func Remember(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

// badFor is how long a certificate that does not hold is not verified again: it may become valid with time.
const badFor = 10 * time.Second

// user is nil without an error when the certificate names nobody.
func (c *certificates) user(r *http.Request, now time.Time) (*request.User, error) {
	conn, _ := r.Context().Value(connectionKey{}).(*connection)
	var memory *atomic.Pointer[verdict]
	if conn != nil {
		memory = &conn.client
	}
	c.left.Observe(r.TLS.PeerCertificates[0].NotAfter.Sub(now).Seconds())
	v := judge(memory, r.TLS.PeerCertificates, c.ca.Current(now), now, userOfCertificate)
	return v.user, v.err
}

// judge verifies a chain of certificates, leaf first, unless memory (may be nil) has the verdict.
func judge(memory *atomic.Pointer[verdict], chain []*x509.Certificate, by *pki.Bundle, now time.Time,
	name func(*x509.Certificate) (*request.User, error)) *verdict {
	if memory != nil {
		if v := memory.Load(); v != nil && v.leaf == chain[0] && v.by == by && now.Before(v.until) {
			return v
		}
	}
	v := &verdict{leaf: chain[0], by: by}
	if v.until, v.err = verify(chain, by.Pool, now); v.err == nil {
		v.user, v.err = name(chain[0])
	}
	if v.err != nil {
		v.until = now.Add(badFor)
	}
	if memory != nil {
		memory.Store(v)
	}
	return v
}

// verify says until when a certificate holds, or why it does not.
func verify(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) (time.Time, error) {
	o := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if len(chain) > 1 {
		o.Intermediates = x509.NewCertPool()
		for _, c := range chain[1:] {
			o.Intermediates.AddCert(c)
		}
	}
	good, err := chain[0].Verify(o)
	if err != nil {
		return time.Time{}, fmt.Errorf("verifying certificate SN=%d, SKID=%X, AKID=%X failed: %w",
			chain[0].SerialNumber, chain[0].SubjectKeyId, chain[0].AuthorityKeyId, err)
	}
	var until time.Time // the longest that one of the ways to an authority holds
	for _, way := range good {
		ends := way[0].NotAfter
		for _, c := range way[1:] {
			if c.NotAfter.Before(ends) {
				ends = c.NotAfter
			}
		}
		if ends.After(until) {
			until = ends
		}
	}
	return until, nil
}

// uidAttribute holds a user's UID in the subject of a certificate; it is of the Cloud Native Computing Foundation's arc.
var uidAttribute = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

func userOfCertificate(c *x509.Certificate) (*request.User, error) {
	if c.Subject.CommonName == "" {
		return nil, nil
	}
	uid, found := "", false
	for _, a := range c.Subject.Names {
		if !a.Type.Equal(uidAttribute) {
			continue
		}
		text, ok := a.Value.(string)
		switch {
		case !ok:
			return nil, errors.New("the UID in the subject of the client certificate is not a string")
		case found:
			return nil, errors.New("expected 1 UID in the subject of the client certificate, but found multiple")
		case text == "":
			return nil, errors.New("the UID in the subject of the client certificate cannot be an empty string")
		}
		uid, found = text, true
	}
	sum := sha256.Sum256(c.Raw)
	return authenticated(&request.User{
		Name: c.Subject.CommonName, UID: uid, Groups: c.Subject.Organization,
		Extra: map[string][]string{extraCredential: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}), nil
}
