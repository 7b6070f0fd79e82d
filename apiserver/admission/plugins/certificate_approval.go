package plugins

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/apiserver/admission"
)

// certificateApproval lets a request for a certificate be approved or denied by who may approve for its signer
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#certificateapproval).
type certificateApproval struct{ access Access }

func (*certificateApproval) Name() string { return "CertificateApproval" }

func (p *certificateApproval) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Update || !isPart(a, "certificatesigningrequests", "approval") {
		return nil
	}
	// Of the old object, since the new one may say anything.
	signer := a.Old.(*certificatesv1.CertificateSigningRequest).Spec.SignerName
	if !forSigner(ctx, p.access, a, "approve", signer) {
		return forbid(a, "user not permitted to approve requests with signerName %q", signer)
	}
	return nil
}
