package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// Who kubelets are.
const (
	NodeUserPrefix = "system:node:"
	NodesGroup     = "system:nodes"
)

// CheckKubeletClient says what is wrong with a request for the certificate by which a kubelet calls the API server
// (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers).
func CheckKubeletClient(r *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNodeSubject(r); err != nil {
		return err
	}
	switch {
	case len(r.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(r.EmailAddresses) > 0:
		return errEmail
	case len(r.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	case len(r.URIs) > 0:
		return errURI
	}
	return checkUsages(usages, certificatesv1.UsageClientAuth)
}

// CheckKubeletServing says what is wrong with a request for the certificate by which a kubelet is called; see CheckKubeletClient.
func CheckKubeletServing(r *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNodeSubject(r); err != nil {
		return err
	}
	switch {
	case len(r.DNSNames) == 0 && len(r.IPAddresses) == 0:
		return errors.New("DNS or IP subjectAltName is required")
	case len(r.EmailAddresses) > 0:
		return errEmail
	case len(r.URIs) > 0:
		return errURI
	}
	return checkUsages(usages, certificatesv1.UsageServerAuth)
}

var (
	errEmail = errors.New("email subjectAltNames are not allowed")
	errURI   = errors.New("URI subjectAltNames are not allowed")
)

func checkNodeSubject(r *x509.CertificateRequest) error {
	if !slices.Equal(r.Subject.Organization, []string{NodesGroup}) {
		return errors.New("subject organization is not " + NodesGroup)
	}
	if name, ok := strings.CutPrefix(r.Subject.CommonName, NodeUserPrefix); !ok || name == "" {
		return fmt.Errorf("subject common name does not begin with %s", NodeUserPrefix)
	}
	return nil
}

// checkUsages wants digital signature, auth, and at most key encipherment beside.
func checkUsages(usages []certificatesv1.KeyUsage, auth certificatesv1.KeyUsage) error {
	seen := map[certificatesv1.KeyUsage]bool{}
	for _, u := range usages {
		seen[u] = true
	}
	delete(seen, certificatesv1.UsageKeyEncipherment)
	if !seen[certificatesv1.UsageDigitalSignature] || !seen[auth] || len(seen) != 2 {
		return fmt.Errorf("usages did not match [digital signature,%s], nor these and key encipherment", auth)
	}
	return nil
}
