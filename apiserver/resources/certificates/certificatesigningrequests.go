package certificates

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"

	"pilothouse.dev/apiserver/registry"
)

// CertificateSigningRequests ask a signer for a certificate. Spec never changes; Approved and Denied come through approval, the
// certificate and Failed through status (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/).
var CertificateSigningRequests = registry.Define(registry.Kind[*certificatesv1.CertificateSigningRequest]{
	Group: group, Version: version, Kind: "CertificateSigningRequest", Plural: "certificatesigningrequests",
	Short:  []string{"csr"},
	Status: true,
	Name:   anyName,
	BeforeCreate: func(r *certificatesv1.CertificateSigningRequest) {
		r.Status = certificatesv1.CertificateSigningRequestStatus{}
	},
	BeforeUpdate: func(r, old *certificatesv1.CertificateSigningRequest) {
		r.Spec = old.Spec
	},
	BeforeStatus: func(r, old *certificatesv1.CertificateSigningRequest) {
		stamp(r, old)
		keepDecision(r, old)
	},
	Validate:       validateRequest,
	ValidateStatus: validateRequestStatus,
	Parts: []registry.Part[*certificatesv1.CertificateSigningRequest]{{
		Name: "approval",
		Keep: func(r, old *certificatesv1.CertificateSigningRequest) {
			r.Spec, r.Status.Certificate = old.Spec, old.Status.Certificate
			stamp(r, old)
		},
		Validate: validateRequestApproval,
	}},
	Fields: func(r *certificatesv1.CertificateSigningRequest) fields.Set {
		return fields.Set{"spec.signerName": r.Spec.SignerName}
	},
	FieldNames: []string{"spec.signerName"},
	Columns: []registry.Column[*certificatesv1.CertificateSigningRequest]{
		registry.Age[*certificatesv1.CertificateSigningRequest](),
		{Name: "SignerName", Description: "Who is asked to sign.", Value: func(r *certificatesv1.CertificateSigningRequest) any {
			return orNone(r.Spec.SignerName)
		}},
		{Name: "Requestor", Description: "Who asks.", Value: func(r *certificatesv1.CertificateSigningRequest) any { return r.Spec.Username }},
		{Name: "RequestedDuration", Description: "For how long the certificate is to be valid.", Value: func(r *certificatesv1.CertificateSigningRequest) any {
			if r.Spec.ExpirationSeconds == nil {
				return "<none>"
			}
			return duration.HumanDuration(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
		}},
		{Name: "Condition", Description: "What became of it.", Value: func(r *certificatesv1.CertificateSigningRequest) any { return requestState(r) }},
	},
})

func requestState(r *certificatesv1.CertificateSigningRequest) string {
	has := func(t certificatesv1.RequestConditionType) bool { return len(conditionsOf(r, t)) > 0 }
	state := "Pending"
	switch {
	case has(certificatesv1.CertificateDenied):
		state = "Denied"
	case has(certificatesv1.CertificateApproved):
		state = "Approved"
	}
	if has(certificatesv1.CertificateFailed) {
		state += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		state += ",Issued"
	}
	return state
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

func conditionsOf(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) []certificatesv1.CertificateSigningRequestCondition {
	var out []certificatesv1.CertificateSigningRequestCondition
	for _, c := range r.Status.Conditions {
		if c.Type == t {
			out = append(out, c)
		}
	}
	return out
}

// keepDecision gives a status update the old conditions by which the request was approved or denied, where it says them
// otherwise or leaves them out. That it adds some is for validation to refuse.
func keepDecision(r, old *certificatesv1.CertificateSigningRequest) {
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		was := conditionsOf(old, t)
		switch len(conditionsOf(r, t)) {
		case 0:
			r.Status.Conditions = append(r.Status.Conditions, was...)
		case len(was):
			for i := range r.Status.Conditions {
				if r.Status.Conditions[i].Type == t {
					r.Status.Conditions[i], was = was[0], was[1:]
				}
			}
		}
	}
}

// stamp fills the times that conditions come without: of a transition from the same condition before.
func stamp(r, old *certificatesv1.CertificateSigningRequest) {
	now := metav1.Now().Rfc3339Copy()
	for i := range r.Status.Conditions {
		c := &r.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, o := range conditionsOf(old, c.Type) {
			if o.Status == c.Status && !o.LastTransitionTime.IsZero() {
				c.LastTransitionTime = o.LastTransitionTime
			}
		}
	}
}
