package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	jose "github.com/go-jose/go-jose/v4"

	"pilothouse.dev/pkg/pki"
)

// verifier is a key that tokens are checked with.
type verifier struct {
	id     string
	key    crypto.PublicKey
	method jose.SignatureAlgorithm
}

// readSigner reads the key that signs tokens.
func readSigner(file string) (jose.Signer, *verifier, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the key that signs tokens: %w", err)
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the key that signs tokens from %s: %w", file, err)
	}
	v, err := newVerifier(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("reading the key that signs tokens from %s: %w", file, err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: v.method, Key: jose.JSONWebKey{Key: key, KeyID: v.id}}, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("using the key that signs tokens from %s: %w", file, err)
	}
	return signer, v, nil
}

// readVerifiers reads every key of a PEM file: public keys, certificates, or private keys whose public half is meant.
func readVerifiers(file string) ([]*verifier, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the keys that check tokens: %w", err)
	}
	var all []*verifier
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		key, err := publicKey(block)
		if err != nil {
			return nil, fmt.Errorf("reading the keys that check tokens from %s: %w", file, err)
		}
		v, err := newVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("reading the keys that check tokens from %s: %w", file, err)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("reading the keys that check tokens: %s holds no key in PEM form", file)
	}
	return all, nil
}

func publicKey(block *pem.Block) (crypto.PublicKey, error) {
	switch {
	case block.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		key, err := pki.ParseKey(pem.EncodeToMemory(block))
		if err != nil {
			return nil, err
		}
		return key.Public(), nil
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

// newVerifier settles a key's signature method and its id, which is made of the key itself: the SHA-256 of its DER form, so that
// every server calls it the same.
func newVerifier(key crypto.PublicKey) (*verifier, error) {
	v := &verifier{key: key}
	switch k := key.(type) {
	case *rsa.PublicKey:
		v.method = jose.RS256
	case *ecdsa.PublicKey:
		switch size := k.Curve.Params().BitSize; size {
		case 256:
			v.method = jose.ES256
		case 384:
			v.method = jose.ES384
		case 521:
			v.method = jose.ES512
		default:
			return nil, fmt.Errorf("a curve of %d bits signs no tokens: use P-256, P-384 or P-521", size)
		}
	default:
		return nil, fmt.Errorf("%T signs no tokens: use RSA or ECDSA", key)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	v.id = base64.RawURLEncoding.EncodeToString(sum[:])
	return v, nil
}
