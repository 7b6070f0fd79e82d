package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const leastExpiration = 600 // seconds

var usages = sets.New(
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
	certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
	certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME,
	certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
	certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
)

// Conditions that decide; the first two through approval only.
var (
	decisions = []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied}
	final     = append(decisions[:2:2], certificatesv1.CertificateFailed)
)

// anyName is the rule for names that mean nothing: they must fit into a path.
func anyName(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}

func validateRequest(r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	spec, s := field.NewPath("spec"), &r.Spec
	if err := checkRequest(s.Request); err != nil {
		errs = append(errs, field.Invalid(spec.Child("request"), s.Request, err.Error()))
	}
	at := spec.Child("usages")
	if len(s.Usages) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	seen := sets.New[certificatesv1.KeyUsage]()
	for i, u := range s.Usages {
		if !usages.Has(u) {
			errs = append(errs, field.NotSupported(at.Index(i), u, sets.List(usages)))
		}
		if seen.Has(u) {
			errs = append(errs, field.Duplicate(at.Index(i), u))
		}
		seen.Insert(u)
	}
	// The name that v1beta1 gave to requests without one.
	if s.SignerName == "kubernetes.io/legacy-unknown" {
		errs = append(errs, field.Invalid(spec.Child("signerName"), s.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, validateSigner(s.SignerName, spec.Child("signerName"))...)
	}
	if e := s.ExpirationSeconds; e != nil && *e < leastExpiration {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *e, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return append(errs, validateOutcome(r)...)
}

func checkRequest(raw []byte) error {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return csr.CheckSignature()
}

// validateOutcome checks conditions and certificate as they stand.
func validateOutcome(r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	status := field.NewPath("status")
	seen := sets.New[certificatesv1.RequestConditionType]()
	for i, c := range r.Status.Conditions {
		at := status.Child("conditions").Index(i)
		if c.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
		} else if seen.Has(c.Type) {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen.Insert(c.Type)
		if seen.HasAll(decisions...) && (c.Type == decisions[0] || c.Type == decisions[1]) {
			errs = append(errs, field.Invalid(at.Child("type"), c.Type, "Approved and Denied conditions are mutually exclusive"))
		}
		legal := []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}
		if sets.New(final...).Has(c.Type) {
			legal = legal[:1]
		}
		if c.Status == "" {
			errs = append(errs, field.Required(at.Child("status"), ""))
		} else if !sets.New(legal...).Has(c.Status) {
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, legal))
		}
	}
	if err := checkCertificates(r.Status.Certificate); err != nil {
		errs = append(errs, field.Invalid(status.Child("certificate"), "<certificate data>", err.Error()))
	}
	return errs
}

// checkCertificates wants one or more certificates in PEM, or nothing at all.
func checkCertificates(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	n := 0
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("no PEM block headers are permitted")
		}
		certs, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certs) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		n++
	}
	if n == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

func validateRequestApproval(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	errs := append(validateRequest(r), noRemovals(r, old)...)
	return append(errs, noCertificate(r, old)...)
}

func validateRequestStatus(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	errs := append(validateRequest(r), noRemovals(r, old)...)
	errs = append(errs, noDecisions(r, old)...)
	if len(old.Status.Certificate) > 0 && !bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		errs = append(errs, field.Forbidden(field.NewPath("status", "certificate"), "updates may not modify existing certificate content"))
	}
	return errs
}

func noRemovals(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	for _, t := range final {
		if len(conditionsOf(old, t)) > len(conditionsOf(r, t)) {
			errs = append(errs, field.Forbidden(field.NewPath("status", "conditions"), fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	return errs
}

func noDecisions(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("status", "conditions")
	for _, t := range decisions {
		is, was := conditionsOf(r, t), conditionsOf(old, t)
		switch {
		case len(is) > len(was):
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("updates may not add a condition of type %q", t)))
		case len(is) == len(was) && !apiequality.Semantic.DeepEqual(is, was):
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("updates may not modify a condition of type %q", t)))
		}
	}
	return errs
}

func noCertificate(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	if bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("status", "certificate"), "updates may not set certificate content")}
}
