package plugins

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/apiserver/admission"
)

// certificateSubject refuses a request for a client certificate that would make its holder a master
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#certificatesubjectrestriction).
type certificateSubject struct{}

func (certificateSubject) Name() string { return "CertificateSubjectRestriction" }

func (certificateSubject) Validate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("certificates.k8s.io", "certificatesigningrequests") {
		return nil
	}
	spec := &a.Object.(*certificatesv1.CertificateSigningRequest).Spec
	if spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	block, _ := pem.Decode(spec.Request)
	if block == nil {
		return nil // the kind's own validation has refused it
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return forbid(a, "could not parse CSR: %v", err)
	}
	if slices.Contains(csr.Subject.Organization, "system:masters") {
		return forbid(a, "use of %s signer with system:masters group is not allowed", spec.SignerName)
	}
	return nil
}
