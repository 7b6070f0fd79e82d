package serviceaccount

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/pkg/pki"
)

var everything = labels.Everything()

// Signer signs the tokens of service accounts. Safe for concurrent use.
type Signer struct{ with jose.Signer }

// ReadSigner reads the key, RSA or ECDSA in PEM form; an error names the file.
func ReadSigner(file string) (*Signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the key that signs tokens: %w", err)
	}
	wrong := func(err error) error { return fmt.Errorf("reading the key that signs tokens from %s: %w", file, err) }
	key, err := pki.ParseKey(b)
	if err != nil {
		return nil, wrong(err)
	}
	var method jose.SignatureAlgorithm
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		method = jose.RS256
	case *ecdsa.PublicKey:
		method = map[int]jose.SignatureAlgorithm{256: jose.ES256, 384: jose.ES384, 521: jose.ES512}[k.Curve.Params().BitSize]
	}
	if method == "" {
		return nil, wrong(fmt.Errorf("%T signs no tokens: use RSA, or ECDSA on P-256, P-384 or P-521", key))
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, wrong(err)
	}
	sum := sha256.Sum256(der) // the key's id, as the API server makes it
	with, err := jose.NewSigner(jose.SigningKey{Algorithm: method, Key: jose.JSONWebKey{Key: key, KeyID: base64.RawURLEncoding.EncodeToString(sum[:])}}, nil)
	if err != nil {
		return nil, wrong(err)
	}
	return &Signer{with}, nil
}

// token is one that lives as long as its secret and its account do.
func (s *Signer) token(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
	const in = "kubernetes.io/serviceaccount/"
	token, err := jwt.Signed(s.with).Claims(map[string]any{
		"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:" + account.Namespace + ":" + account.Name, in + "namespace": account.Namespace,
		in + "secret.name": secret.Name, in + "service-account.name": account.Name, in + "service-account.uid": string(account.UID),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing a token of service account %s: %w", account.Name, err)
	}
	return token, nil
}
