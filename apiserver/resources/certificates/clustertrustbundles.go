package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ClusterTrustBundles are the roots by which a signer's certificates are verified.
var ClusterTrustBundles = registry.Define(registry.Kind[*certificatesv1.ClusterTrustBundle]{
	Group: group, Version: version, Kind: "ClusterTrustBundle", Plural: "clustertrustbundles",
	Name:     anyName, // the rule depends on the signer: see validateBundle
	Validate: validateBundle,
	ValidateUpdate: func(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
		return apivalidation.ValidateImmutableField(b.Spec.SignerName, old.Spec.SignerName, field.NewPath("spec", "signerName"))
	},
	Fields: func(b *certificatesv1.ClusterTrustBundle) fields.Set {
		return fields.Set{"spec.signerName": b.Spec.SignerName}
	},
	FieldNames: []string{"spec.signerName"},
	Columns: []registry.Column[*certificatesv1.ClusterTrustBundle]{
		{Name: "SignerName", Description: "Whose roots they are.", Value: func(b *certificatesv1.ClusterTrustBundle) any { return orNone(b.Spec.SignerName) }},
	},
})

const longestBundle = 1 << 20

func validateBundle(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range bundleName(b) {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), b.Name, msg))
	}
	spec := field.NewPath("spec")
	if b.Spec.SignerName != "" {
		errs = append(errs, validateSigner(b.Spec.SignerName, spec.Child("signerName"))...)
	}
	return append(errs, validateRoots(b.Spec.TrustBundle, spec.Child("trustBundle"))...)
}

// bundleName checks that the name of a signer's bundle begins with that signer's name, and no other does.
func bundleName(b *certificatesv1.ClusterTrustBundle) []string {
	rest := b.Name
	if b.Spec.SignerName == "" {
		if strings.Contains(rest, ":") {
			return []string{"ClusterTrustBundle without signer name must not have \":\" in its name"}
		}
	} else {
		prefix := strings.ReplaceAll(b.Spec.SignerName, "/", ":") + ":"
		if !strings.HasPrefix(rest, prefix) {
			return []string{fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", b.Spec.SignerName, prefix)}
		}
		rest = strings.TrimPrefix(rest, prefix)
	}
	return apivalidation.NameIsDNSSubdomain(rest, false)
}

func validateRoots(bundle string, at *field.Path) field.ErrorList {
	if len(bundle) > longestBundle {
		return field.ErrorList{field.TooLong(at, "", longestBundle)}
	}
	var errs field.ErrorList
	wrong := func(format string, args ...any) {
		errs = append(errs, field.Invalid(at, "<value omitted>", fmt.Sprintf(format, args...)))
	}
	first := map[string]int{}
	var twice [][2]int
	rest := []byte(bundle)
	for i := 0; ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			wrong("entry %d has bad block type: %v", i, block.Type)
			continue
		}
		if len(block.Headers) > 0 {
			wrong("entry %d has PEM block headers", i)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			wrong("entry %d does not parse as X.509", i)
		case !cert.IsCA:
			wrong("entry %d does not have the CA bit set", i)
		case !cert.BasicConstraintsValid:
			wrong("entry %d has invalid basic constraints", i)
		}
		if before, ok := first[string(block.Bytes)]; ok {
			twice = append(twice, [2]int{before, i})
		} else {
			first[string(block.Bytes)] = i
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if len(first) == 0 {
		wrong("at least one trust anchor must be provided")
	}
	for _, pair := range twice {
		wrong("duplicate trust anchor (indices %v)", pair)
	}
	return errs
}
