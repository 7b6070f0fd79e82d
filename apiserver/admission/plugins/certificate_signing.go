package plugins

import (
	"bytes"
	"context"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
)

// certificateSigning lets a request for a certificate be answered by who may sign for its signer
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#certificatesigning): a
// CertificateSigningRequest, and the certificate chain of a PodCertificateRequest.
type certificateSigning struct{ access Access }

func (*certificateSigning) Name() string { return "CertificateSigning" }

func (p *certificateSigning) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Update {
		return nil
	}
	// Of the old object, since the new one may say anything.
	var signer string
	switch {
	case isPart(a, "certificatesigningrequests", "status"):
		is, was := a.Object.(*certificatesv1.CertificateSigningRequest), a.Old.(*certificatesv1.CertificateSigningRequest)
		if bytes.Equal(is.Status.Certificate, was.Status.Certificate) && apiequality.Semantic.DeepEqual(is.Status.Conditions, was.Status.Conditions) {
			return nil
		}
		signer = was.Spec.SignerName
	case isPart(a, "podcertificaterequests", "status"):
		is, was := a.Object.(*certificatesv1.PodCertificateRequest), a.Old.(*certificatesv1.PodCertificateRequest)
		if is.Status.CertificateChain == was.Status.CertificateChain && apiequality.Semantic.DeepEqual(is.Status.Conditions, was.Status.Conditions) {
			return nil
		}
		signer = was.Spec.SignerName
	default:
		return nil
	}
	if !forSigner(ctx, p.access, a, "sign", signer) {
		return forbid(a, "user not permitted to sign requests with signerName %q", signer)
	}
	return nil
}

func isPart(a *admission.Attributes, plural, subresource string) bool {
	return a.Subresource == subresource && a.Resource.GVK.Group == "certificates.k8s.io" && a.Resource.Plural == plural
}

// forSigner says whether the caller may do verb for a signer: by its name, or for all signers of its domain
// (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#authorization).
func forSigner(ctx context.Context, access Access, a *admission.Attributes, verb, signer string) bool {
	if a.User == nil {
		return false
	}
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		i := &request.Info{Verb: verb, IsResource: true, Group: "certificates.k8s.io", Version: "*", Resource: "signers", Name: name}
		if ok, _ := access.Allow(ctx, a.User, i); ok {
			return true
		}
	}
	return false
}
