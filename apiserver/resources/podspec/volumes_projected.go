package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var keyTypes = sets.New("ED25519", "ECDSAP256", "ECDSAP384", "ECDSAP521", "RSA3072", "RSA4096")

// How long a certificate for a pod may be good, in seconds; signers of Kubernetes' own make no longer ones than a day.
const (
	shortestCertificate       = 60 * 60
	longestCertificate        = 91 * 24 * 60 * 60
	longestOwn                = 24 * 60 * 60
	ownSigners                = "kubernetes.io/"
	longestUserMetadata       = 128 * 1024
	shortestToken             = 10 * 60
	longestToken        int64 = 1 << 32
)

// validateProjections checks sources that share a directory. Some of the paths in errors are those of the volume, as users of
// Kubernetes know them.
func validateProjections(sources []corev1.VolumeProjection, volume *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := sets.New[string]()
	place := func(p string) {
		if p != "" && paths.Has(p) {
			errs = append(errs, field.Invalid(volume, p, "conflicting duplicate paths"))
		}
		paths.Insert(p)
	}
	items := func(all []corev1.KeyToPath, at *field.Path) {
		errs = append(errs, validateItems(all, at)...)
		for _, item := range all {
			place(item.Path)
		}
	}
	for i := range sources {
		s, at, set := &sources[i], volume.Child("sources").Index(i), 0
		if s.Secret != nil {
			set++
			errs = append(errs, required(s.Secret.Name, at.Child("secret", "name"))...)
			items(s.Secret.Items, at.Child("secret", "items"))
		}
		if s.ConfigMap != nil {
			set++
			errs = append(errs, required(s.ConfigMap.Name, at.Child("configMap", "name"))...)
			items(s.ConfigMap.Items, at.Child("configMap", "items"))
		}
		if s.DownwardAPI != nil {
			set++
			for j := range s.DownwardAPI.Items {
				errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[j], at.Child("downwardAPI"))...)
				place(s.DownwardAPI.Items[j].Path)
			}
		}
		if s.ServiceAccountToken != nil {
			set++
			errs = append(errs, validateTokenProjection(s.ServiceAccountToken, at.Child("serviceAccountToken"), volume)...)
		}
		if s.ClusterTrustBundle != nil {
			set++
			errs = append(errs, validateTrustBundle(s.ClusterTrustBundle, at.Child("clusterTrustBundle"))...)
			place(s.ClusterTrustBundle.Path)
		}
		if c := s.PodCertificate; c != nil {
			set++
			errs = append(errs, validatePodCertificate(c, at.Child("podCertificate"))...)
			place(c.CredentialBundlePath)
			place(c.KeyPath)
			place(c.CertificateChainPath)
		}
		if set > 1 {
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func validateTokenProjection(t *corev1.ServiceAccountTokenProjection, at, volume *field.Path) field.ErrorList {
	var errs field.ErrorList
	expiry := at.Child("expirationSeconds")
	switch s := t.ExpirationSeconds; {
	case s == nil:
		errs = append(errs, field.Required(expiry, ""))
	case *s < shortestToken:
		errs = append(errs, field.Invalid(expiry, *s, "may not specify a duration less than 10 minutes"))
	case *s > longestToken:
		errs = append(errs, field.Invalid(expiry, *s, "may not specify a duration larger than 2^32 seconds"))
	}
	errs = append(errs, validateID(t.User, validation.IsValidUserID, at.Child("user"))...)
	return append(errs, validateFilePath(t.Path, volume.Child("path"))...)
}

func validateTrustBundle(b *corev1.ClusterTrustBundleProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case b.Name != nil && b.SignerName != nil:
		errs = append(errs, field.Invalid(at, b, "only one of name and signerName may be used"))
	case b.Name != nil:
		errs = append(errs, validateBundleName(*b.Name, at.Child("name"))...)
		if b.LabelSelector != nil {
			errs = append(errs, field.Invalid(at.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case b.SignerName != nil:
		if *b.SignerName == "" {
			errs = append(errs, field.Required(at.Child("signerName"), "must be a valid signer name"))
		}
		errs = append(errs, validateSigner(*b.SignerName, at.Child("signerName"))...)
		errs = append(errs, metav1validation.ValidateLabelSelector(b.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	default:
		errs = append(errs, field.Required(at, "either name or signerName must be specified"))
	}
	errs = append(errs, validateID(b.User, validation.IsValidUserID, at.Child("user"))...)
	return append(errs, validateFilePath(b.Path, at.Child("path"))...)
}

// validateBundleName checks the name of a trust bundle: a plain one, or with its signer's before it (domain:name:rest).
func validateBundleName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "must be a valid object name")}
	}
	plain := name[strings.LastIndex(name, ":")+1:]
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(plain) {
		errs = append(errs, field.Invalid(at, name, "not a valid clustertrustbundlename: "+msg))
	}
	return errs
}

// validateSigner checks the name of a signer: domain/path.
func validateSigner(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	domain, path, ok := strings.Cut(name, "/")
	if !ok || path == "" {
		return field.ErrorList{field.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(domain) {
		errs = append(errs, field.Invalid(at, domain, "validating label: "+msg))
	}
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(at, domain, "should be a domain with at least two segments separated by dots"))
	}
	for part := range strings.SplitSeq(path, ".") {
		for _, msg := range validation.IsDNS1123Label(part) {
			errs = append(errs, field.Invalid(at, path, "validating label: "+msg))
		}
	}
	return errs
}

func validatePodCertificate(c *corev1.PodCertificateProjection, at *field.Path) field.ErrorList {
	errs := validateSigner(c.SignerName, at.Child("signerName"))
	if !keyTypes.Has(c.KeyType) {
		errs = append(errs, field.NotSupported(at.Child("keyType"), c.KeyType, sets.List(keyTypes)))
	}
	if m, max := c.MaxExpirationSeconds, at.Child("maxExpirationSeconds"); m != nil {
		longest := int32(longestCertificate)
		if strings.HasPrefix(c.SignerName, ownSigners) {
			longest = longestOwn
		}
		switch {
		case *m < shortestCertificate:
			errs = append(errs, field.Invalid(max, *m, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", shortestCertificate)))
		case *m > longest:
			errs = append(errs, field.Invalid(max, *m, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", longest)))
		}
	}
	set := false
	for name, p := range map[string]string{"credentialBundlePath": c.CredentialBundlePath, "keyPath": c.KeyPath, "certificateChainPath": c.CertificateChainPath} {
		if p != "" {
			set = true
			errs = append(errs, validateFilePath(p, at.Child(name))...)
		}
	}
	if !set {
		errs = append(errs, field.Required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	notes, size := at.Child("userAnnotations"), 0
	errs = append(errs, apivalidation.ValidateAnnotations(c.UserAnnotations, notes)...)
	for key, value := range c.UserAnnotations {
		size += len(key) + len(value)
		if !strings.Contains(key, "/") {
			errs = append(errs, field.Invalid(notes, key, "must be a domain-prefixed key (such as \"acme.io/foo\")"))
		}
	}
	if size > longestUserMetadata {
		errs = append(errs, field.TooLong(notes, "", longestUserMetadata))
	}
	return append(errs, validateID(c.User, validation.IsValidUserID, at.Child("user"))...)
}
