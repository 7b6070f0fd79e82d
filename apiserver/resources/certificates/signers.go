package certificates

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	longestDomain = validation.DNS1123SubdomainMaxLength
	// After the slash there is room for a namespace, a dot and a name.
	longestSigner = longestDomain + 1 + validation.DNS1123LabelMaxLength + 1 + validation.DNS1123SubdomainMaxLength
)

// validateSigner checks a signer's name: a domain, a slash, and labels with dots between.
func validateSigner(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	if len(domain) > longestDomain {
		errs = append(errs, field.TooLong(at, domain, longestDomain))
	}
	for _, part := range []string{domain, rest} {
		for label := range strings.SplitSeq(part, ".") {
			for _, msg := range validation.IsDNS1123Label(label) {
				errs = append(errs, field.Invalid(at, part, fmt.Sprintf("validating label %q: %s", label, msg)))
			}
		}
	}
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(at, domain, "should be a domain with at least two segments separated by dots"))
	}
	if len(name) > longestSigner {
		errs = append(errs, field.TooLong(at, name, longestSigner))
	}
	return errs
}
