package certificates

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	leastLifetime   = 3600 // seconds
	mostLifetime    = 91 * 86400
	mostOwnLifetime = 86400 // of Kubernetes' own signers
	longestUID      = 128
	longestStub     = 10 << 10
	longestChain    = 100 << 10
	clockSkew       = 5 * time.Minute
	refreshMargin   = 10 * time.Minute
	annotationsSize = 64 << 10
)

func validatePodRequest(r *certificatesv1.PodCertificateRequest) field.ErrorList {
	spec, s := field.NewPath("spec"), &r.Spec
	errs := validateSigner(s.SignerName, spec.Child("signerName"))
	errs = append(errs, validateUserAnnotations(s.UnverifiedUserAnnotations, spec.Child("unverifiedUserAnnotations"))...)
	for _, who := range []struct{ name, uid, field string }{
		{s.PodName, string(s.PodUID), "pod"},
		{s.ServiceAccountName, string(s.ServiceAccountUID), "serviceAccount"},
		{string(s.NodeName), string(s.NodeUID), "node"},
	} {
		for _, msg := range apivalidation.NameIsDNSSubdomain(who.name, false) {
			errs = append(errs, field.Invalid(spec.Child(who.field+"Name"), who.name, msg))
		}
		at := spec.Child(who.field + "UID")
		if who.uid == "" {
			errs = append(errs, field.Invalid(at, who.uid, "must not be empty"))
		} else if len(who.uid) > longestUID {
			errs = append(errs, field.TooLong(at, who.uid, longestUID))
		}
	}
	most := int32(mostLifetime)
	if domain, _, _ := strings.Cut(s.SignerName, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		most = mostOwnLifetime
	}
	at := spec.Child("maxExpirationSeconds")
	if e := s.MaxExpirationSeconds; e == nil {
		errs = append(errs, field.Required(at, "must be set"))
	} else if *e < leastLifetime || *e > most {
		errs = append(errs, field.Invalid(at, *e, fmt.Sprintf("must be in the range [%d, %d]", leastLifetime, most)))
	}
	return append(errs, validateStub(s.StubPKCS10Request, spec.Child("stubPKCS10Request"))...)
}

// validateUserAnnotations checks them as annotations whose keys all have a domain.
func validateUserAnnotations(all map[string]string, at *field.Path) field.ErrorList {
	errs := apivalidation.ValidateAnnotations(all, at)
	size := 0
	for key, value := range all {
		size += len(key) + len(value)
		if !strings.Contains(key, "/") {
			errs = append(errs, field.Invalid(at, key, "must be a domain-prefixed key (such as \"acme.io/foo\")"))
		}
	}
	if size > annotationsSize {
		errs = append(errs, field.TooLong(at, "", annotationsSize))
	}
	return errs
}

// validateStub checks that the one who asks has the private key, and that the key is strong enough.
func validateStub(der []byte, at *field.Path) field.ErrorList {
	if len(der) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(der) > longestStub {
		return field.ErrorList{field.TooLong(at, der, longestStub)}
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return field.ErrorList{field.Invalid(at, field.OmitValueType{}, "must be a valid DER-serialized PKCS#10 certificate signing request")}
	}
	if err := csr.CheckSignature(); err != nil {
		return field.ErrorList{field.Invalid(at, field.OmitValueType{}, "could not verify the signature of the certificate signing request")}
	}
	switch key := csr.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return field.ErrorList{field.Invalid(at, "curve "+key.Curve.Params().Name, "elliptic public keys must use curve P256, P384, or P521")}
		}
	case *rsa.PublicKey:
		if bits := key.Size() * 8; bits != 3072 && bits != 4096 {
			return field.ErrorList{field.Invalid(at, fmt.Sprintf("%d-bit modulus", bits), "RSA keys must have modulus size 3072 or 4096")}
		}
	default:
		return field.ErrorList{field.Invalid(at, field.OmitValueType{}, "unknown public key type; supported types are Ed25519, ECDSA, and RSA")}
	}
	return nil
}

func validatePodRequestUpdate(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	return apivalidation.ValidateImmutableField(r.Spec, old.Spec, field.NewPath("spec"))
}

// validatePodRequestStatus lets a request be issued, denied or failed, once.
func validatePodRequestStatus(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	var errs field.ErrorList
	status := field.NewPath("status")
	known := 0
	for i, c := range r.Status.Conditions {
		at := status.Child("conditions").Index(i)
		switch c.Type {
		case outcomes[0], outcomes[1], outcomes[2]:
			if known++; known > 1 {
				errs = append(errs, field.Invalid(at.Child("type"), c.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`))
			}
			if c.Status != metav1.ConditionTrue {
				errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("type"), c.Type, outcomes))
		}
	}
	errs = append(errs, metav1validation.ValidateConditions(r.Status.Conditions, status.Child("conditions"))...)
	if len(errs) > 0 {
		return errs
	}
	same := func(want certificatesv1.PodCertificateRequestStatus, why string) field.ErrorList {
		if apiequality.Semantic.DeepEqual(r.Status, want) {
			return nil
		}
		return field.ErrorList{field.Invalid(status, field.OmitValueType{}, why)}
	}
	if podRequestState(old) != "Pending" {
		return same(old.Status, "immutable after PodCertificateRequest is issued, denied, or failed")
	}
	switch podRequestState(r) {
	case certificatesv1.PodCertificateRequestConditionTypeIssued:
		return validateIssued(r, status, time.Now())
	case "Pending":
		return same(old.Status, `status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
	}
	return same(certificatesv1.PodCertificateRequestStatus{Conditions: r.Status.Conditions},
		"non-condition status fields must be empty when denying or failing the PodCertificateRequest")
}

// validateIssued checks a certificate that a signer has just made: for the key that was asked for, and with its true times.
func validateIssued(r *certificatesv1.PodCertificateRequest, status *field.Path, now time.Time) field.ErrorList {
	at := status.Child("certificateChain")
	if len(r.Status.CertificateChain) > longestChain {
		return field.ErrorList{field.TooLong(at, r.Status.CertificateChain, longestChain)}
	}
	leaf, why := leafOf(r.Status.CertificateChain)
	if why != "" {
		return field.ErrorList{field.Invalid(at, r.Status.CertificateChain, why)}
	}
	csr, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "stubPKCS10Request"), field.OmitValueType{}, "must be a valid DER-serialized PKCS#10 certificate signing request")}
	}
	if !bytes.Equal(csr.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		return field.ErrorList{field.Invalid(at, r.Status.CertificateChain, "leaf certificate was not issued to the requested public key")}
	}
	var errs field.ErrorList
	from, to, refresh := r.Status.NotBefore, r.Status.NotAfter, r.Status.BeginRefreshAt
	if from == nil {
		errs = append(errs, field.Required(status.Child("notBefore"), "must be present and consistent with the issued certificate"))
	}
	if to == nil {
		errs = append(errs, field.Required(status.Child("notAfter"), "must be present and consistent with the issued certificate"))
	}
	if refresh == nil {
		errs = append(errs, field.Required(status.Child("beginRefreshAt"), "must be present and in the range [notbefore+10min, notafter-10min]"))
	}
	if len(errs) > 0 {
		return errs
	}
	one := func(name string, value any, why string) field.ErrorList {
		return field.ErrorList{field.Invalid(status.Child(name), value, why)}
	}
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case !from.Time.Equal(leaf.NotBefore):
		return one("notBefore", from.Time, "must be set to the NotBefore time encoded in the leaf certificate")
	case now.Sub(from.Time).Abs() >= clockSkew:
		return one("notBefore", from.Time, "must be set to within 5 minutes of kube-apiserver's current time")
	case !to.Time.Equal(leaf.NotAfter):
		return one("notAfter", to.Time, "must be set to the NotAfter time encoded in the leaf certificate")
	case lifetime < leastLifetime*time.Second:
		return one("certificateChain", lifetime, "leaf certificate lifetime must be >= 1 hour")
	case r.Spec.MaxExpirationSeconds != nil && lifetime > time.Duration(*r.Spec.MaxExpirationSeconds)*time.Second:
		return one("certificateChain", lifetime, fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%v)", *r.Spec.MaxExpirationSeconds))
	case refresh.Time.Before(from.Add(refreshMargin)):
		return one("beginRefreshAt", refresh.Time, "must be at least 10 minutes after status.notBefore")
	case refresh.Time.After(to.Add(-refreshMargin)):
		return one("beginRefreshAt", refresh.Time, "must be at least 10 minutes before status.notAfter")
	}
	return nil
}

// leafOf reads a chain and returns its first certificate, or what is wrong with the chain.
func leafOf(chain string) (*x509.Certificate, string) {
	var leaf *x509.Certificate
	rest := []byte(chain)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks"
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err == nil && leaf == nil:
			leaf = cert
		case err != nil && leaf == nil:
			return nil, "leaf certificate does not parse as valid X.509"
		case err != nil:
			return nil, "intermediate certificate does not parse as valid X.509"
		}
	}
	if leaf == nil {
		return nil, "issued certificate chain must contain at least one certificate"
	}
	return leaf, ""
}
