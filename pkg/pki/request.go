package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// NewKey makes a private key as our certificates have them, and its PEM.
func NewKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	p, err := encode(nil, key)
	return key, p.Key, err
}

// NewRequest asks, in PEM, for a certificate of id's names and groups for the key. What it may be used for is said beside it.
func NewRequest(id Identity, key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: id.Name, Organization: id.Groups},
		DNSNames: id.DNS, IPAddresses: id.IPs,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("making the request of %s: %w", id.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseRequest reads what NewRequest wrote, or another did, and checks that it was signed with its key.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate request: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("checking who signed a certificate request: %w", err)
	}
	return r, nil
}

// Sign makes a certificate, in PEM, of what leaf says: subject, names, usages and times. It never is an authority's, and never
// lasts longer than ours.
func (a *Authority) Sign(leaf *x509.Certificate, public any, now time.Time) ([]byte, error) {
	if !now.Before(a.cert.NotAfter) {
		return nil, fmt.Errorf("the signer has expired: NotAfter=%v", a.cert.NotAfter)
	}
	c := *leaf
	c.SerialNumber = serial()
	c.BasicConstraintsValid, c.IsCA = true, false
	c.Extensions, c.ExtraExtensions = nil, nil
	if c.NotAfter.After(a.cert.NotAfter) {
		c.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", c.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
