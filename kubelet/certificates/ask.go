package certificates

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/pki"
)

// Requests is where certificates are asked for; client-go's is one.
type Requests interface {
	Create(context.Context, *certificatesv1.CertificateSigningRequest, metav1.CreateOptions) (*certificatesv1.CertificateSigningRequest, error)
	Get(ctx context.Context, name string, o metav1.GetOptions) (*certificatesv1.CertificateSigningRequest, error)
}

// Pauses between two looks at a request grow with how long it has waited: a node joins at once, and people who take their time cost
// nobody anything.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = time.Minute
	callLimit = time.Minute // of one call
)

func nextLook(waited time.Duration) time.Duration {
	return min(max(waited/16, firstLook), lastLook)
}

// ask makes a request, or finds the one made before, waits for its answer, and keeps it.
func (k *Keeper) ask(ctx context.Context) (*x509.Certificate, error) {
	key, keyText, err := waitingKey(k.keyFile)
	if err != nil {
		return nil, err
	}
	requests, err := k.requests()
	if err != nil {
		return nil, err
	}
	r, err := k.create(ctx, requests, key)
	if err != nil {
		return nil, err
	}
	answer, err := k.await(ctx, requests, r)
	if errors.Is(err, errRefused) {
		return nil, errors.Join(err, forget(k.keyFile))
	}
	if err != nil {
		return nil, err
	}
	text := append(append(slices.Clone(answer), '\n'), keyText...)
	c, err := parse(text)
	if err == nil && !serves(c, k.id, time.Now()) {
		err = fmt.Errorf("it is of %s for %v %v until %v", c.Subject, c.DNSNames, c.IPAddresses, c.NotAfter)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("request %s was answered with a certificate that is of no use: %w", r.Name, err), forget(k.keyFile))
	}
	if err := save(k.file, text); err != nil {
		return nil, err
	}
	return c, forget(k.keyFile)
}

// create posts the request of a key. The request's name comes from the key, so that it is made once however often this is tried.
func (k *Keeper) create(ctx context.Context, requests Requests, key crypto.Signer) (*certificatesv1.CertificateSigningRequest, error) {
	text, err := pki.NewRequest(k.id, key)
	if err != nil {
		return nil, err
	}
	name, err := k.nameOf(key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       certificatesv1.CertificateSigningRequestSpec{Request: text, SignerName: k.signer, Usages: k.usages},
	}, metav1.CreateOptions{})
	switch {
	case err == nil:
		return r, nil
	case !apierrors.IsAlreadyExists(err):
		return nil, fmt.Errorf("making a request: %w", err)
	}
	if r, err = requests.Get(ctx, name, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("looking at the request made before: %w", err)
	}
	return r, nil
}

// nameOf is the name of the request for a key: of what is asked, so that a node with another name or address asks anew.
func (k *Keeper) nameOf(key crypto.Signer) (string, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("naming a request: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %q %q %v %q ", k.signer, k.id.Name, k.id.Groups, k.id.DNS, k.id.IPs, k.usages)
	h.Write(public)
	return "node-csr-" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)), nil
}

var errRefused = errors.New("the request was refused")

// await returns the certificate, in PEM. A server that is away for a while is waited for; the error is errRefused when another
// request must be made.
func (k *Keeper) await(ctx context.Context, requests Requests, r *certificatesv1.CertificateSigningRequest) ([]byte, error) {
	for began := time.Now(); ; {
		if len(r.Status.Certificate) > 0 {
			return leafFirst(r.Status.Certificate)
		}
		for _, c := range r.Status.Conditions {
			if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
				return nil, fmt.Errorf("%w: %s is %s: %s: %s", errRefused, r.Name, c.Type, c.Reason, c.Message)
			}
		}
		if err := sleep(ctx, nextLook(time.Since(began))); err != nil {
			return nil, err
		}
		now, err := k.look(ctx, requests, r.Name)
		switch {
		case err == nil:
			r = now
		case apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
			return nil, fmt.Errorf("looking at request %s: %w", r.Name, err)
		default:
			k.log.Debug("looking at a request", zap.String("name", r.Name), zap.Error(err))
		}
	}
}

func (k *Keeper) look(ctx context.Context, requests Requests, name string) (*certificatesv1.CertificateSigningRequest, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return requests.Get(ctx, name, metav1.GetOptions{})
}

// leafFirst is the certificates of an answer without what may stand around them.
func leafFirst(text []byte) ([]byte, error) {
	var out bytes.Buffer
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			if err := pem.Encode(&out, block); err != nil {
				return nil, err
			}
		}
		text = rest
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("%w: its answer holds no certificate", errRefused)
	}
	return out.Bytes(), nil
}
