package apiextensions

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// What a schema must be to be structural, as far as its own text tells
// (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).

type schema = apiextensionsv1.JSONSchemaProps

var schemaTypes = sets.New("string", "number", "integer", "boolean", "array", "object")

// place is where a schema stands in another.
type place int

const (
	root place = iota
	item
	property
	logical // under allOf, anyOf, oneOf or not: it may narrow what is, and not say what is
)

// validateRoot checks the schema of a whole object; at is the path of the field that holds it.
func validateRoot(s *schema, status bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Nullable {
		errs = append(errs, field.Forbidden(at.Child("openAPIV3Schema.nullable"), "nullable cannot be true at the root"))
	}
	if status && (len(s.AllOf)+len(s.AnyOf)+len(s.OneOf)+len(s.Enum) > 0 || s.Not != nil) {
		errs = append(errs, field.Invalid(at.Child("openAPIV3Schema"), field.OmitValueType{},
			"allOf, anyOf, oneOf, not and enum are not allowed at the root of the schema if the status subresource is enabled"))
	}
	at = at.Child("openAPIV3Schema")
	if s.Type != "" && s.Type != "object" {
		errs = append(errs, field.Invalid(at.Child("type"), s.Type, "must be object at the root"))
	}
	if s.AdditionalProperties != nil {
		errs = append(errs, field.Forbidden(at.Child("additionalProperties"), "must not be used at the root"))
	}
	return append(errs, validateSchema(s, root, at)...)
}

func validateSchema(s *schema, is place, at *field.Path) field.ErrorList {
	errs := append(unsupported(s, at), validateType(s, is, at)...)
	errs = append(errs, validateLists(s, at)...)
	errs = append(errs, validateRules(s.XValidations, at.Child("x-kubernetes-validations"))...)
	if s.Pattern != "" {
		if _, err := regexp.Compile(s.Pattern); err != nil {
			errs = append(errs, field.Invalid(at.Child("pattern"), s.Pattern, fmt.Sprintf("must be a valid regular expression, but isn't: %v", err)))
		}
	}
	if a := s.AdditionalProperties; a != nil {
		if len(s.Properties) > 0 && (!a.Allows || a.Schema != nil) {
			errs = append(errs, field.Forbidden(at.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
		}
		if a.Schema != nil {
			errs = append(errs, validateSchema(a.Schema, under(is, property), at.Child("additionalProperties"))...)
		}
	}
	for _, name := range sets.List(sets.KeySet(s.Properties)) {
		p := s.Properties[name]
		errs = append(errs, validateSchema(&p, under(is, property), at.Child("properties").Key(name))...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		errs = append(errs, validateSchema(s.Items.Schema, under(is, item), at.Child("items"))...)
	}
	for _, l := range []struct {
		name string
		of   []schema
	}{{"allOf", s.AllOf}, {"anyOf", s.AnyOf}, {"oneOf", s.OneOf}} {
		for i := range l.of {
			if s.XIntOrString && (l.name == "anyOf" || l.name == "allOf") && intOrString(&l.of[i]) {
				continue
			}
			errs = append(errs, validateSchema(&l.of[i], logical, at.Child(l.name).Index(i))...)
		}
	}
	if s.Not != nil {
		errs = append(errs, validateSchema(s.Not, logical, at.Child("not"))...)
	}
	return errs
}

func under(is, as place) place {
	if is == logical {
		return logical
	}
	return as
}

// intOrString is the form in which a schema may repeat that it is an integer or a string.
func intOrString(s *schema) bool {
	if s.Type == "integer" || s.Type == "string" {
		return true
	}
	return len(s.AnyOf) == 2 && s.AnyOf[0].Type == "integer" && s.AnyOf[1].Type == "string"
}

func unsupported(s *schema, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"id", s.ID != ""}, {"additionalItems", s.AdditionalItems != nil}, {"patternProperties", len(s.PatternProperties) > 0},
		{"definitions", len(s.Definitions) > 0}, {"dependencies", len(s.Dependencies) > 0}, {"$ref", s.Ref != nil},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), f.name+" is not supported"))
		}
	}
	if s.UniqueItems {
		errs = append(errs, field.Forbidden(at.Child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"))
	}
	if s.Items != nil && len(s.Items.JSONSchemas) > 0 {
		errs = append(errs, field.Forbidden(at.Child("items"), "items must be a schema object and not an array"))
	}
	if s.XPreserveUnknownFields != nil && !*s.XPreserveUnknownFields {
		errs = append(errs, field.Invalid(at.Child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined"))
	}
	return errs
}

func validateType(s *schema, is place, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	path := at.Child("type")
	switch {
	case s.Type == "null":
		errs = append(errs, field.Forbidden(path, "type cannot be set to null, use nullable as an alternative"))
	case s.Type != "" && !schemaTypes.Has(s.Type):
		errs = append(errs, field.NotSupported(path, s.Type, sets.List(schemaTypes)))
	}
	if is == logical {
		return append(errs, narrowing(s, at)...)
	}
	anything := ptr.Deref(s.XPreserveUnknownFields, false)
	switch {
	case s.XEmbeddedResource && s.Type == "":
		errs = append(errs, field.Required(path, "must be object if x-kubernetes-embedded-resource is true"))
	case s.XEmbeddedResource && s.Type != "object":
		errs = append(errs, field.Invalid(path, s.Type, "must be object if x-kubernetes-embedded-resource is true"))
	case s.Type != "" || s.XIntOrString || anything && is != root:
	case is == root:
		errs = append(errs, field.Required(path, "must not be empty at the root"))
	case is == item:
		errs = append(errs, field.Required(path, "must not be empty for specified array items"))
	default:
		errs = append(errs, field.Required(path, "must not be empty for specified object fields"))
	}
	if s.XIntOrString && anything {
		errs = append(errs, field.Invalid(at.Child("x-kubernetes-preserve-unknown-fields"), true, "must be false if x-kubernetes-int-or-string is true"))
	}
	if s.XIntOrString && s.XEmbeddedResource {
		errs = append(errs, field.Invalid(at.Child("x-kubernetes-embedded-resource"), true, "must be false if x-kubernetes-int-or-string is true"))
	}
	if s.XEmbeddedResource && len(s.Properties) == 0 && !anything {
		errs = append(errs, field.Required(at.Child("properties"), "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"))
	}
	if s.XEmbeddedResource && s.AdditionalProperties != nil {
		errs = append(errs, field.Forbidden(at.Child("additionalProperties"), "must not be used if x-kubernetes-embedded-resource is set"))
	}
	if s.Type == "array" && s.Items == nil {
		errs = append(errs, field.Required(at.Child("items"), "must be specified"))
	}
	return errs
}

// narrowing refuses what says what a value is, where only what it may not be can be said.
func narrowing(s *schema, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	const undefined, empty, no = "must be undefined to be structural", "must be empty to be structural", "must be false to be structural"
	for _, f := range []struct {
		name string
		set  bool
		why  string
	}{
		{"type", s.Type != "", empty}, {"additionalProperties", s.AdditionalProperties != nil, undefined}, {"default", s.Default != nil, undefined},
		{"title", s.Title != "", empty}, {"description", s.Description != "", empty}, {"nullable", s.Nullable, no},
		{"x-kubernetes-preserve-unknown-fields", s.XPreserveUnknownFields != nil, no}, {"x-kubernetes-embedded-resource", s.XEmbeddedResource, no},
		{"x-kubernetes-int-or-string", s.XIntOrString, no}, {"x-kubernetes-list-map-keys", len(s.XListMapKeys) > 0, empty},
		{"x-kubernetes-list-type", s.XListType != nil, undefined}, {"x-kubernetes-map-type", s.XMapType != nil, undefined},
		{"x-kubernetes-validations", len(s.XValidations) > 0, empty},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), f.why))
		}
	}
	return errs
}

func validateLists(s *schema, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	wants := func(kind, because string) {
		switch s.Type {
		case "":
			errs = append(errs, field.Required(at.Child("type"), "must be "+kind+" if "+because+" is specified"))
		case kind:
		default:
			errs = append(errs, field.Invalid(at.Child("type"), s.Type, "must be "+kind+" if "+because+" is specified"))
		}
	}
	if t := s.XMapType; t != nil {
		wants("object", "x-kubernetes-map-type")
		if *t != "atomic" && *t != "granular" {
			errs = append(errs, field.NotSupported(at.Child("x-kubernetes-map-type"), *t, []string{"atomic", "granular"}))
		}
	}
	list, keys := at.Child("x-kubernetes-list-type"), at.Child("x-kubernetes-list-map-keys")
	kind := ptr.Deref(s.XListType, "")
	if s.XListType != nil {
		wants("array", "x-kubernetes-list-type")
		if !slices.Contains([]string{"atomic", "set", "map"}, kind) {
			errs = append(errs, field.NotSupported(list, kind, []string{"atomic", "set", "map"}))
		}
	}
	if len(s.XListMapKeys) > 0 && kind != "map" {
		if s.XListType == nil {
			errs = append(errs, field.Required(list, "must be map if x-kubernetes-list-map-keys is non-empty"))
		} else {
			errs = append(errs, field.Invalid(list, kind, "must be map if x-kubernetes-list-map-keys is non-empty"))
		}
	}
	if kind != "map" {
		return errs
	}
	if len(s.XListMapKeys) == 0 {
		errs = append(errs, field.Required(keys, "must not be empty if x-kubernetes-list-type is map"))
	}
	if s.Items == nil || s.Items.Schema == nil {
		return append(errs, field.Required(at.Child("items"), "must have a schema if x-kubernetes-list-type is map"))
	}
	of := s.Items.Schema
	if of.Type != "object" {
		errs = append(errs, field.Invalid(at.Child("items", "type"), of.Type, "must be object if parent array's x-kubernetes-list-type is map"))
	}
	seen := sets.New[string]()
	for _, k := range s.XListMapKeys {
		p, ok := of.Properties[k]
		switch {
		case !ok:
			errs = append(errs, field.Invalid(keys, s.XListMapKeys, "entries must all be names of item properties"))
		case p.Type == "array" || p.Type == "object":
			errs = append(errs, field.Invalid(at.Child("items", "properties").Key(k).Child("type"), p.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map"))
		case p.Default == nil && !slices.Contains(of.Required, k):
			errs = append(errs, field.Required(at.Child("items", "properties").Key(k).Child("default"),
				"this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
		if seen.Has(k) {
			errs = append(errs, field.Invalid(keys, s.XListMapKeys, "must not contain duplicate entries"))
		}
		seen.Insert(k)
	}
	return errs
}

var ruleReasons = sets.New(apiextensionsv1.FieldValueRequired, apiextensionsv1.FieldValueForbidden, apiextensionsv1.FieldValueInvalid, apiextensionsv1.FieldValueDuplicate)

func validateRules(rules []apiextensionsv1.ValidationRule, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	blank := func(s string) bool { return strings.TrimSpace(s) == "" }
	lines := func(s string) bool { return strings.Contains(strings.TrimSpace(s), "\n") }
	for i, r := range rules {
		one := at.Index(i)
		switch {
		case blank(r.Rule):
			errs = append(errs, field.Required(one.Child("rule"), "rule is not specified"))
		case r.Message != "" && blank(r.Message):
			errs = append(errs, field.Invalid(one.Child("message"), r.Message, "must be non-empty if specified"))
		case lines(r.Message):
			errs = append(errs, field.Invalid(one.Child("message"), r.Message, "must not contain line breaks"))
		case lines(r.Rule) && blank(r.Message):
			errs = append(errs, field.Required(one.Child("message"), "message must be specified if rule contains line breaks"))
		}
		if r.MessageExpression != "" && blank(r.MessageExpression) {
			errs = append(errs, field.Required(one.Child("messageExpression"), "messageExpression must be non-empty if specified"))
		}
		if r.Reason != nil && !ruleReasons.Has(*r.Reason) {
			errs = append(errs, field.NotSupported(one.Child("reason"), *r.Reason, sets.List(ruleReasons)))
		}
		if r.FieldPath != "" && (blank(r.FieldPath) || lines(r.FieldPath)) {
			errs = append(errs, field.Invalid(one.Child("fieldPath"), r.FieldPath, "must be a valid path"))
		}
	}
	return errs
}
