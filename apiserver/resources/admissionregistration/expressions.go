package admissionregistration

import (
	"regexp"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What webhooks and policies say in CEL, as far as its text goes.

const mostConditions = 64

var (
	identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)
	// Words that the CEL specification keeps for itself.
	reserved = sets.New("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
		"loop", "package", "namespace", "return", "var", "void", "while")
)

func blank(s string) bool { return strings.TrimSpace(s) == "" }

func validateConditions(list []admissionregistrationv1.MatchCondition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) > mostConditions {
		errs = append(errs, field.TooMany(at, len(list), mostConditions))
	}
	seen := sets.New[string]()
	for i, c := range list {
		one := at.Index(i)
		if blank(c.Expression) {
			errs = append(errs, field.Required(one.Child("expression"), ""))
		}
		if c.Name == "" {
			errs = append(errs, field.Required(one.Child("name"), ""))
			continue
		}
		for _, msg := range validation.IsQualifiedName(c.Name) {
			errs = append(errs, field.Invalid(one.Child("name"), c.Name, msg))
		}
		if seen.Has(c.Name) {
			errs = append(errs, field.Duplicate(one.Child("name"), c.Name))
		}
		seen.Insert(c.Name)
	}
	return errs
}

func validateVariables(list []admissionregistrationv1.Variable, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, v := range list {
		one := at.Index(i)
		switch {
		case v.Name == "":
			errs = append(errs, field.Required(one.Child("name"), "name is not specified"))
		case !identifier.MatchString(v.Name) || reserved.Has(v.Name):
			errs = append(errs, field.Invalid(one.Child("name"), v.Name, "name is not a valid CEL identifier"))
		case seen.Has(v.Name):
			errs = append(errs, field.Duplicate(one.Child("name"), v.Name))
		}
		seen.Insert(v.Name)
		if blank(v.Expression) {
			errs = append(errs, field.Required(one.Child("expression"), "expression is not specified"))
		}
	}
	return errs
}
