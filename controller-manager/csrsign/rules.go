package csrsign

import (
	"crypto/x509"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/pkg/pki"
)

// LegacyUnknownSigner signs whatever it is asked to; requests to it cannot be made through certificates.k8s.io/v1.
const LegacyUnknownSigner = "kubernetes.io/legacy-unknown"

// rules are what requests to a signer must say; the error is why one is refused. What a rule does not forbid, subject and
// alternative names, is signed as asked.
var rules = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeAPIServerClientSignerName:        clientUsages,
	certificatesv1.KubeAPIServerClientKubeletSignerName: pki.CheckKubeletClient,
	certificatesv1.KubeletServingSignerName:             pki.CheckKubeletServing,
	LegacyUnknownSigner:                                 nil,
}

func clientUsages(_ *x509.CertificateRequest, asked []certificatesv1.KeyUsage) error {
	client := false
	for _, u := range asked {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		case certificatesv1.UsageClientAuth:
			client = true
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !client {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}
