package apiextensions

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/resources/hookspec"
)

func validateDefinition(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	var errs field.ErrorList
	spec, s := field.NewPath("spec"), &d.Spec
	if d.Name != s.Names.Plural+"."+s.Group {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), d.Name, `must be spec.names.plural+"."+spec.group`))
	}
	errs = append(errs, validateGroup(s.Group, spec.Child("group"))...)
	errs = append(errs, oneOf(s.Scope, []apiextensionsv1.ResourceScope{apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped}, spec.Child("scope"))...)
	if s.PreserveUnknownFields {
		errs = append(errs, field.Invalid(spec.Child("preserveUnknownFields"), true,
			"cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"))
	}
	names := spec.Child("names")
	if s.Names.Plural == "" {
		errs = append(errs, field.Required(names.Child("plural"), ""))
	}
	if s.Names.Singular == "" {
		errs = append(errs, field.Required(names.Child("singular"), ""))
	}
	if s.Names.Kind == "" {
		errs = append(errs, field.Required(names.Child("kind"), ""))
	}
	if s.Names.ListKind == "" {
		errs = append(errs, field.Required(names.Child("listKind"), ""))
	}
	errs = append(errs, validateNames(&s.Names, names)...)
	errs = append(errs, validateVersions(s, spec)...)
	errs = append(errs, validateConversion(s.Conversion, spec.Child("conversion"))...)
	if err := approved(d); err != nil {
		errs = append(errs, err)
	}
	return append(errs, validateStored(d)...)
}

func validateGroup(group string, at *field.Path) field.ErrorList {
	if group == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if msgs := validation.IsDNS1123Subdomain(group); len(msgs) > 0 {
		return field.ErrorList{field.Invalid(at, group, strings.Join(msgs, ","))}
	}
	if !strings.Contains(group, ".") {
		return field.ErrorList{field.Invalid(at, group, "should be a domain with at least one dot")}
	}
	return nil
}

func oneOf[T ~string](v T, of []T, at *field.Path) field.ErrorList {
	switch {
	case v == "":
		return field.ErrorList{field.Required(at, "")}
	case !slices.Contains(of, v):
		return field.ErrorList{field.NotSupported(at, v, of)}
	}
	return nil
}

// validateNames checks names as far as there are any: those that were accepted are empty at first.
func validateNames(n *apiextensionsv1.CustomResourceDefinitionNames, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	label := func(at *field.Path, name string) {
		if msgs := validation.IsDNS1035Label(name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, name, strings.Join(msgs, ",")))
		}
	}
	mixed := func(at *field.Path, name string) {
		if msgs := validation.IsDNS1035Label(strings.ToLower(name)); name != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, name, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
		}
	}
	if n.Plural != "" {
		label(at.Child("plural"), n.Plural)
	}
	if n.Singular != "" {
		label(at.Child("singular"), n.Singular)
	}
	mixed(at.Child("kind"), n.Kind)
	mixed(at.Child("listKind"), n.ListKind)
	for i, s := range n.ShortNames {
		label(at.Child("shortNames").Index(i), s)
	}
	if n.Kind != "" && n.Kind == n.ListKind {
		errs = append(errs, field.Invalid(at.Child("listKind"), n.ListKind, "kind and listKind may not be the same"))
	}
	for i, c := range n.Categories {
		label(at.Child("categories").Index(i), c)
	}
	return errs
}

func validateConversion(c *apiextensionsv1.CustomResourceConversion, at *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := oneOf(c.Strategy, []apiextensionsv1.ConversionStrategyType{apiextensionsv1.NoneConverter, apiextensionsv1.WebhookConverter}, at.Child("strategy"))
	client, reviews := at.Child("webhookClientConfig"), at.Child("conversionReviewVersions") // sic: as v1beta1 named them
	if c.Strategy != apiextensionsv1.WebhookConverter {
		if c.Webhook != nil && c.Webhook.ClientConfig != nil {
			errs = append(errs, field.Forbidden(client, "should not be set when strategy is not set to Webhook"))
		}
		if c.Webhook != nil && len(c.Webhook.ConversionReviewVersions) > 0 {
			errs = append(errs, field.Forbidden(reviews, "should not be set when strategy is not set to Webhook"))
		}
		return errs
	}
	if c.Webhook == nil || c.Webhook.ClientConfig == nil {
		errs = append(errs, field.Required(client, "required when strategy is set to Webhook"))
	} else {
		w := c.Webhook.ClientConfig
		var service *hookspec.Service
		if s := w.Service; s != nil {
			service = &hookspec.Service{Namespace: s.Namespace, Name: s.Name, Path: s.Path, Port: s.Port}
		}
		errs = append(errs, hookspec.Validate(w.URL, service, client)...)
		if len(w.CABundle) > 0 && !x509.NewCertPool().AppendCertsFromPEM(w.CABundle) {
			errs = append(errs, field.Invalid(client.Child("caBundle"), w.CABundle, "unable to load root certificates: unable to parse bytes as PEM block"))
		}
	}
	if c.Webhook == nil {
		return append(errs, field.Required(reviews, ""))
	}
	return append(errs, validateReviews(c.Webhook.ConversionReviewVersions, reviews)...)
}

func validateReviews(versions []string, at *field.Path) field.ErrorList {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, v := range versions {
		if seen.Has(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, "duplicate version"))
			continue
		}
		seen.Insert(v)
		for _, msg := range validation.IsDNS1035Label(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, msg))
		}
	}
	if !seen.HasAny("v1", "v1beta1") {
		errs = append(errs, field.Invalid(at, versions, "must include at least one of v1, v1beta1"))
	}
	return errs
}

// validateStored wants every version that objects may be stored in to stay defined. At create BeforeCreate has filled the list.
func validateStored(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	at, stored := field.NewPath("status", "storedVersions"), d.Status.StoredVersions
	if len(stored) == 0 {
		return field.ErrorList{field.Invalid(at, stored, "must have at least one stored version")}
	}
	var errs field.ErrorList
	defined := sets.New[string]()
	for _, v := range d.Spec.Versions {
		defined.Insert(v.Name)
		if v.Storage && !slices.Contains(stored, v.Name) {
			errs = append(errs, field.Invalid(at, stored, "must have the storage version "+v.Name))
		}
	}
	for i, v := range stored {
		if !defined.Has(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, and must remain in "+
				"spec.versions until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", v)))
		}
	}
	return errs
}

// validateDefinitionUpdate: the address never changes, and once served nor does what objects are stored under.
func validateDefinitionUpdate(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	spec := field.NewPath("spec")
	errs := apivalidation.ValidateImmutableField(d.Spec.Group, old.Spec.Group, spec.Child("group"))
	errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.Names.Plural, old.Spec.Names.Plural, spec.Child("names", "plural"))...)
	if slices.ContainsFunc(old.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	}) {
		errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.Scope, old.Spec.Scope, spec.Child("scope"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.Names.Kind, old.Spec.Names.Kind, spec.Child("names", "kind"))...)
	}
	return errs
}

func validateDefinitionStatus(d, _ *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	return validateNames(&d.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))
}

// approved checks that a group which belongs to Kubernetes is taken with the community's approval
// (https://github.com/kubernetes/enhancements/pull/1111).
func approved(d *apiextensionsv1.CustomResourceDefinition) *field.Error {
	protected := slices.ContainsFunc([]string{"k8s.io", "kubernetes.io"}, func(g string) bool {
		return d.Spec.Group == g || strings.HasSuffix(d.Spec.Group, "."+g)
	})
	if !protected {
		return nil
	}
	at := field.NewPath("metadata", "annotations").Key(apiextensionsv1.KubeAPIApprovedAnnotation)
	why := fmt.Sprintf("protected groups must have approval annotation %q", apiextensionsv1.KubeAPIApprovedAnnotation)
	const more = ", see https://github.com/kubernetes/enhancements/pull/1111"
	text := d.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation]
	u, err := url.ParseRequestURI(text)
	switch {
	case text == "":
		return field.Required(at, why+more)
	case strings.HasPrefix(text, "unapproved"), err == nil && u.Host != "" && u.Scheme != "":
		return nil
	}
	return field.Invalid(at, text, why+` with either a URL or a reason starting with "unapproved"`+more)
}
