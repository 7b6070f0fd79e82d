package apiextensions

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateVersions(s *apiextensionsv1.CustomResourceDefinitionSpec, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := spec.Child("versions")
	names := sets.New[string]()
	stored := 0
	for i := range s.Versions {
		v := &s.Versions[i]
		one := at.Index(i)
		if msgs := validation.IsDNS1035Label(v.Name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(one.Child("name"), v.Name, strings.Join(msgs, ",")))
		}
		names.Insert(v.Name)
		if v.Storage {
			stored++
		}
		for _, why := range deprecation(v) {
			errs = append(errs, field.Invalid(one.Child("deprecationWarning"), v.DeprecationWarning, why))
		}
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			errs = append(errs, field.Required(one.Child("schema", "openAPIV3Schema"), ""))
		}
	}
	if names.Len() != len(s.Versions) {
		errs = append(errs, field.Invalid(at, s.Versions, "must contain unique version names"))
	}
	if stored != 1 {
		errs = append(errs, field.Invalid(at, s.Versions, "must have exactly one version marked as storage version"))
	}
	return append(errs, validateParts(s.Versions, spec)...)
}

// validateParts checks what may differ from version to version. Where it does not, its errors name it once, as a part of the
// spec: the paths that users of Kubernetes know.
func validateParts(versions []apiextensionsv1.CustomResourceDefinitionVersion, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	each := func(same func(a, b *apiextensionsv1.CustomResourceDefinitionVersion) bool, check func(v *apiextensionsv1.CustomResourceDefinitionVersion, at *field.Path, common bool)) {
		common := len(versions) > 0
		for i := range versions {
			common = common && same(&versions[0], &versions[i])
		}
		for i := range versions {
			if !common {
				check(&versions[i], spec.Child("versions").Index(i), false)
			} else if i == 0 {
				check(&versions[0], spec, true)
			}
		}
	}
	type version = apiextensionsv1.CustomResourceDefinitionVersion
	each(func(a, b *version) bool { return apiequality.Semantic.DeepEqual(a.Schema, b.Schema) }, func(v *version, at *field.Path, common bool) {
		name := "schema"
		if common {
			name = "validation"
		}
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			errs = append(errs, validateRoot(v.Schema.OpenAPIV3Schema, v.Subresources != nil && v.Subresources.Status != nil, at.Child(name))...)
		}
	})
	each(func(a, b *version) bool { return apiequality.Semantic.DeepEqual(a.Subresources, b.Subresources) }, func(v *version, at *field.Path, _ bool) {
		if v.Subresources != nil && v.Subresources.Scale != nil {
			errs = append(errs, validateScale(v.Subresources.Scale, at.Child("subresources"))...)
		}
	})
	each(func(a, b *version) bool {
		return apiequality.Semantic.DeepEqual(a.AdditionalPrinterColumns, b.AdditionalPrinterColumns)
	}, func(v *version, at *field.Path, _ bool) {
		for i := range v.AdditionalPrinterColumns {
			errs = append(errs, validateColumn(&v.AdditionalPrinterColumns[i], at.Child("additionalPrinterColumns").Index(i))...)
		}
	})
	each(func(a, b *version) bool {
		return apiequality.Semantic.DeepEqual(a.SelectableFields, b.SelectableFields) && apiequality.Semantic.DeepEqual(a.Schema, b.Schema)
	}, func(v *version, at *field.Path, _ bool) {
		errs = append(errs, validateSelectable(v, at.Child("selectableFields"))...)
	})
	return errs
}

const longestWarning = 256

func deprecation(v *apiextensionsv1.CustomResourceDefinitionVersion) []string {
	if v.DeprecationWarning == nil {
		return nil
	}
	var out []string
	text := *v.DeprecationWarning
	if !v.Deprecated {
		out = append(out, "can only be set for deprecated versions")
	}
	if len(text) > longestWarning {
		out = append(out, "must be <= 256 characters in length")
	}
	if text == "" {
		out = append(out, "must not be an empty string")
	}
	for i, r := range text {
		if !unicode.IsPrint(r) {
			return append(out, fmt.Sprintf("must only contain printable UTF-8 characters; non-printable character found at index %d", i))
		}
	}
	return out
}

func simplePath(p string, at *field.Path) field.ErrorList {
	if !strings.HasPrefix(p, ".") {
		return field.ErrorList{field.Invalid(at, p, "must be a simple json path starting with .")}
	}
	return nil
}

func validateScale(s *apiextensionsv1.CustomResourceSubresourceScale, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(name, p string, needed bool, why string, under ...string) {
		at := at.Child("scale." + name) // sic: one step of the path
		if p == "" {
			if needed {
				errs = append(errs, field.Required(at, ""))
			}
			return
		}
		if bad := simplePath(p, at); len(bad) > 0 {
			errs = append(errs, bad...)
		} else if !slices.ContainsFunc(under, func(u string) bool { return strings.HasPrefix(p, u) }) {
			errs = append(errs, field.Invalid(at, p, why))
		}
	}
	check("specReplicasPath", s.SpecReplicasPath, true, "should be a json path under .spec", ".spec.")
	check("statusReplicasPath", s.StatusReplicasPath, true, "should be a json path under .status", ".status.")
	if s.LabelSelectorPath != nil {
		check("labelSelectorPath", *s.LabelSelectorPath, false, "should be a json path under either .spec or .status", ".spec.", ".status.")
	}
	return errs
}

var (
	columnTypes   = sets.New("integer", "number", "string", "boolean", "date")
	columnFormats = sets.New("int32", "int64", "float", "double", "byte", "date", "date-time", "password")
)

func validateColumn(c *apiextensionsv1.CustomResourceColumnDefinition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	types := "must be one of " + strings.Join(sets.List(columnTypes), ",")
	if c.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), types))
	} else if !columnTypes.Has(c.Type) {
		errs = append(errs, field.Invalid(at.Child("type"), c.Type, types))
	}
	if c.Format != "" && !columnFormats.Has(c.Format) {
		errs = append(errs, field.Invalid(at.Child("format"), c.Format, "must be one of "+strings.Join(sets.List(columnFormats), ",")))
	}
	if c.JSONPath == "" {
		return append(errs, field.Required(at.Child("JSONPath"), "")) // sic
	}
	return append(errs, simplePath(c.JSONPath, at.Child("JSONPath"))...)
}

const mostSelectable = 8

func validateSelectable(v *apiextensionsv1.CustomResourceDefinitionVersion, at *field.Path) field.ErrorList {
	if len(v.SelectableFields) == 0 || v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, f := range v.SelectableFields {
		one := at.Index(i).Child("jsonPath")
		p := f.JSONPath
		switch steps, err := stepsOf(p); {
		case p == "":
			errs = append(errs, field.Required(one, ""))
			continue
		case err != "":
			errs = append(errs, field.Invalid(one, p, "is an invalid path: "+err))
			continue
		case steps[0] == "metadata":
			errs = append(errs, field.Invalid(one, p, "must not point to fields in metadata"))
		case !slices.Contains([]string{"string", "boolean", "integer"}, typeAt(v.Schema.OpenAPIV3Schema, steps)):
			errs = append(errs, field.Invalid(one, p, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."))
		}
		if seen.Has(p) {
			errs = append(errs, field.Duplicate(one, p))
		}
		seen.Insert(p)
	}
	if seen.Len() > mostSelectable {
		errs = append(errs, field.TooMany(at, seen.Len(), mostSelectable))
	}
	return errs
}

func stepsOf(p string) ([]string, string) {
	rest, ok := strings.CutPrefix(p, ".")
	steps := strings.Split(rest, ".")
	if !ok || slices.Contains(steps, "") || strings.ContainsAny(p, "[]") {
		return steps, "only field names with dots before them are allowed"
	}
	return steps, ""
}

func typeAt(s *apiextensionsv1.JSONSchemaProps, steps []string) string {
	for _, step := range steps {
		next, ok := s.Properties[step]
		if !ok {
			return ""
		}
		s = &next
	}
	return s.Type
}
