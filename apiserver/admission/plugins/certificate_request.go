package plugins

import (
	"context"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/apiserver/admission"
)

// certificateRequest writes into a new request for a certificate who asks for it, whatever the request said. What the kind keeps
// afterwards nobody can forge: approvers and signers decide by it.
type certificateRequest struct{}

func (certificateRequest) Name() string { return "CertificateRequest" }

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
