package plugins

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/apiserver/admission"
)

// certificateRequest writes into a new request for a certificate who asks for it, whatever the request said, and refuses one that
// would make its holder a master
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#certificatesubjectrestriction).
type certificateRequest struct{}

func (certificateRequest) Name() string { return "CertificateSubjectRestriction" }

func (certificateRequest) Mutate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("certificates.k8s.io", "certificatesigningrequests") {
		return nil
	}
	spec := &a.Object.(*certificatesv1.CertificateSigningRequest).Spec
	spec.Username, spec.UID, spec.Groups, spec.Extra = "", "", nil, nil
	if u := a.User; u != nil {
		spec.Username, spec.UID, spec.Groups = u.Name, u.UID, slices.Clone(u.Groups)
		for key, values := range u.Extra {
			if spec.Extra == nil {
				spec.Extra = map[string]certificatesv1.ExtraValue{}
			}
			spec.Extra[key] = slices.Clone(values)
		}
	}
	return nil
}

func (certificateRequest) Validate(_ context.Context, a *admission.Attributes) error {
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
