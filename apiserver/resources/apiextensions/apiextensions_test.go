package apiextensions

import (
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func expect(t *testing.T, errs field.ErrorList, want []string) {
	t.Helper()
	slices.Sort(want)
	if got := brief(errs); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

// read makes a definition of a spec as a create would.
func read(t *testing.T, spec string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte("metadata: {name: things.example.com}\nspec: "+spec), d); err != nil {
		t.Fatal(err)
	}
	CustomResourceDefinitions.Default(d)
	CustomResourceDefinitions.BeforeCreate(d)
	return d
}

const (
	names = `group: example.com, scope: Namespaced, names: {plural: things, kind: Thing}`
	v1    = `name: v1, served: true, storage: true`
)

func TestValidate(t *testing.T) {
	const any = `schema: {openAPIV3Schema: {type: object}}`
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"good", `{` + names + `, versions: [{` + v1 + `, ` + any + `}]}`, nil},
		{"nothing", `{}`, []string{"metadata.name: Invalid value", "spec.group: Required value", "spec.scope: Required value", "spec.names.plural: Required value",
			"spec.names.singular: Required value", "spec.names.kind: Required value", "spec.names.listKind: Required value", "spec.versions: Invalid value",
			"status.storedVersions: Invalid value"}},
		{"no schema", `{` + names + `, versions: [{` + v1 + `}]}`, []string{"spec.versions[0].schema.openAPIV3Schema: Required value"}},
		{"bad names", `{group: example.com, scope: X, names: {plural: things, kind: T_, listKind: T_, singular: S, shortNames: [S], categories: [all, C]}, versions: [{` + v1 + `, ` + any + `}]}`, []string{
			"spec.scope: Unsupported value", "spec.names.kind: Invalid value", "spec.names.listKind: Invalid value", "spec.names.listKind: Invalid value",
			"spec.names.singular: Invalid value", "spec.names.shortNames[0]: Invalid value", "spec.names.categories[1]: Invalid value"}},
		{"group without a dot", `{group: example, scope: Cluster, names: {plural: things, kind: Thing}, versions: [{` + v1 + `, ` + any + `}]}`,
			[]string{"metadata.name: Invalid value", "spec.group: Invalid value"}},
		{"versions", `{` + names + `, preserveUnknownFields: true, versions: [{name: V, served: true, storage: true, ` + any + `}, {name: V, served: true, storage: true, deprecationWarning: "", ` + any + `}]}`, []string{
			"spec.preserveUnknownFields: Invalid value", "spec.versions[0].name: Invalid value", "spec.versions[1].name: Invalid value", "spec.versions: Invalid value",
			"spec.versions: Invalid value", "spec.versions[1].deprecationWarning: Invalid value", "spec.versions[1].deprecationWarning: Invalid value"}},
		{"scale", `{` + names + `, versions: [{` + v1 + `, ` + any + `, subresources: {scale: {specReplicasPath: .status.a, statusReplicasPath: status, labelSelectorPath: .a}}}]}`, []string{
			"spec.subresources.scale.specReplicasPath: Invalid value", "spec.subresources.scale.statusReplicasPath: Invalid value", "spec.subresources.scale.labelSelectorPath: Invalid value"}},
		{"columns", `{` + names + `, versions: [{` + v1 + `, ` + any + `, additionalPrinterColumns: [{}, {name: a, type: x, format: x, jsonPath: a}]}]}`, []string{
			"spec.additionalPrinterColumns[0].JSONPath: Required value", "spec.additionalPrinterColumns[0].name: Required value", "spec.additionalPrinterColumns[0].type: Required value",
			"spec.additionalPrinterColumns[1].JSONPath: Invalid value", "spec.additionalPrinterColumns[1].format: Invalid value", "spec.additionalPrinterColumns[1].type: Invalid value"}},
		{"columns of one version", `{` + names + `, versions: [{` + v1 + `, ` + any + `, additionalPrinterColumns: [{name: a, type: date}]}, {name: v2, served: true, storage: false, ` + any + `}]}`,
			[]string{"spec.versions[0].additionalPrinterColumns[0].JSONPath: Required value"}},
		{"selectable", `{` + names + `, versions: [{` + v1 + `, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}, b: {type: object}}}},
			selectableFields: [{jsonPath: .a}, {jsonPath: .a}, {jsonPath: .b}, {jsonPath: .c}, {jsonPath: .metadata.name}, {jsonPath: "a[0]"}, {jsonPath: ""}]}]}`, []string{
			"spec.selectableFields[1].jsonPath: Duplicate value", "spec.selectableFields[2].jsonPath: Invalid value", "spec.selectableFields[3].jsonPath: Invalid value",
			"spec.selectableFields[4].jsonPath: Invalid value", "spec.selectableFields[5].jsonPath: Invalid value", "spec.selectableFields[6].jsonPath: Required value"}},
		{"conversion", `{` + names + `, conversion: {strategy: Webhook}, versions: [{` + v1 + `, ` + any + `}]}`,
			[]string{"spec.conversion.webhookClientConfig: Required value", "spec.conversionReviewVersions: Required value"}},
		{"conversion by webhook", `{` + names + `, conversion: {strategy: Webhook, webhook: {clientConfig: {service: {name: a, namespace: b}}, conversionReviewVersions: [v1]}}, versions: [{` + v1 + `, ` + any + `}]}`, nil},
		{"conversion by a bad webhook", `{` + names + `, conversion: {strategy: Webhook, webhook: {clientConfig: {url: "http://a", caBundle: eA==}, conversionReviewVersions: [v2, v2, V]}}, versions: [{` + v1 + `, ` + any + `}]}`, []string{
			"spec.conversion.webhookClientConfig.url: Invalid value", "spec.conversion.webhookClientConfig.caBundle: Invalid value", "spec.conversion.conversionReviewVersions: Invalid value",
			"spec.conversion.conversionReviewVersions[1]: Invalid value", "spec.conversion.conversionReviewVersions[2]: Invalid value"}},
		{"no conversion", `{` + names + `, conversion: {strategy: None, webhook: {clientConfig: {url: "https://a"}, conversionReviewVersions: [v1]}}, versions: [{` + v1 + `, ` + any + `}]}`,
			[]string{"spec.conversion.webhookClientConfig: Forbidden", "spec.conversion.conversionReviewVersions: Forbidden"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, w := range c.want {
				c.want[i] = strings.ReplaceAll(w, "spec.conversionReviewVersions", "spec.conversion.conversionReviewVersions")
			}
			expect(t, CustomResourceDefinitions.Validate(read(t, c.spec)), c.want)
		})
	}
}

// The errors of schemas stand under spec.validation when all versions have the same.
func TestValidateSchema(t *testing.T) {
	for _, c := range []struct {
		name, schema string
		want         []string
	}{
		{"good", `{type: object, properties: {spec: {type: object, additionalProperties: {type: string}}, port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}}}`, nil},
		{"no type", `{properties: {spec: {properties: {a: {type: array, items: {}}}}}}`, []string{".type: Required value", ".properties[spec].type: Required value", ".properties[spec].properties[a].items.type: Required value"}},
		{"root", `{type: string, nullable: true, additionalProperties: true}`, []string{".nullable: Forbidden", ".type: Invalid value", ".additionalProperties: Forbidden"}},
		{"types", `{type: object, properties: {a: {type: "null"}, b: {type: text}, c: {type: array}, d: {type: string, pattern: "("}}}`,
			[]string{".properties[a].type: Forbidden", ".properties[b].type: Unsupported value", ".properties[c].items: Required value", ".properties[d].pattern: Invalid value"}},
		{"unsupported", `{type: object, properties: {a: {type: object, id: x, $ref: y, patternProperties: {a: {type: string}}, definitions: {a: {type: string}}, dependencies: {a: [b]}},
			b: {type: array, uniqueItems: true, items: [{type: string}], additionalItems: true}, c: {x-kubernetes-preserve-unknown-fields: false, type: object}}}`, []string{
			".properties[a].id: Forbidden", ".properties[a].$ref: Forbidden", ".properties[a].patternProperties: Forbidden", ".properties[a].definitions: Forbidden",
			".properties[a].dependencies: Forbidden", ".properties[b].uniqueItems: Forbidden", ".properties[b].items: Forbidden", ".properties[b].additionalItems: Forbidden",
			".properties[c].x-kubernetes-preserve-unknown-fields: Invalid value"}},
		{"both properties", `{type: object, properties: {a: {type: object, properties: {b: {type: string}}, additionalProperties: {type: string}}}}`, []string{".properties[a].additionalProperties: Forbidden"}},
		{"logic", `{type: object, properties: {a: {type: string, anyOf: [{type: string}, {description: x}], not: {default: 1}}}}`,
			[]string{".properties[a].anyOf[0].type: Forbidden", ".properties[a].anyOf[1].description: Forbidden", ".properties[a].not.default: Forbidden"}},
		{"embedded", `{type: object, properties: {a: {x-kubernetes-embedded-resource: true}, b: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}}`,
			[]string{".properties[a].type: Required value", ".properties[a].properties: Required value"}},
		{"lists", `{type: object, properties: {a: {type: array, items: {type: string}, x-kubernetes-list-type: map}, b: {type: string, x-kubernetes-list-type: x, x-kubernetes-map-type: y},
			c: {type: array, x-kubernetes-list-map-keys: [k], items: {type: object}}, d: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k, k, l, m],
			items: {type: object, properties: {k: {type: string}, l: {type: array, items: {type: string}}}}}}}`, []string{
			".properties[a].x-kubernetes-list-map-keys: Required value", ".properties[a].items.type: Invalid value", ".properties[b].type: Invalid value", ".properties[b].type: Invalid value",
			".properties[b].x-kubernetes-list-type: Unsupported value", ".properties[b].x-kubernetes-map-type: Unsupported value", ".properties[c].x-kubernetes-list-type: Required value",
			".properties[d].items.properties[k].default: Required value", ".properties[d].items.properties[k].default: Required value", ".properties[d].items.properties[l].type: Invalid value",
			".properties[d].x-kubernetes-list-map-keys: Invalid value", ".properties[d].x-kubernetes-list-map-keys: Invalid value"}},
		{"rules", `{type: object, x-kubernetes-validations: [{rule: ""}, {rule: "a\nb"}, {rule: a, message: "a\nb", reason: X, messageExpression: " ", fieldPath: " "}]}`, []string{
			".x-kubernetes-validations[0].rule: Required value", ".x-kubernetes-validations[1].message: Required value", ".x-kubernetes-validations[2].message: Invalid value",
			".x-kubernetes-validations[2].reason: Unsupported value", ".x-kubernetes-validations[2].messageExpression: Required value", ".x-kubernetes-validations[2].fieldPath: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, each := []string{}, []string{}
			for _, w := range c.want {
				one = append(one, "spec.validation.openAPIV3Schema"+w)
				each = append(each, "spec.versions[0].schema.openAPIV3Schema"+w)
			}
			v := `{` + v1 + `, schema: {openAPIV3Schema: ` + c.schema + `}}`
			expect(t, CustomResourceDefinitions.Validate(read(t, `{`+names+`, versions: [`+v+`]}`)), one)
			expect(t, CustomResourceDefinitions.Validate(read(t, `{`+names+`, versions: [`+v+`, {name: v2, served: false, storage: false, schema: {openAPIV3Schema: {type: object}}}]}`)), each)
		})
	}
	d := read(t, `{`+names+`, versions: [{`+v1+`, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, anyOf: [{required: [a]}]}}}]}`)
	expect(t, CustomResourceDefinitions.Validate(d), []string{"spec.validation.openAPIV3Schema: Invalid value"})
}

func TestUpdate(t *testing.T) {
	two := `versions: [{name: v1, served: true, storage: %1, schema: {openAPIV3Schema: {type: object}}}, {name: v2, served: true, storage: %2, schema: {openAPIV3Schema: {type: object}}}]`
	first := read(t, `{`+names+`, `+strings.NewReplacer("%1", "true", "%2", "false").Replace(two)+`}`)
	next := first.DeepCopy()
	next.Spec.Versions[0].Storage, next.Spec.Versions[1].Storage = false, true
	CustomResourceDefinitions.BeforeUpdate(next, first)
	if !slices.Equal(next.Status.StoredVersions, []string{"v1", "v2"}) || !slices.Equal(first.Status.StoredVersions, []string{"v1"}) {
		t.Errorf("stored in %v, before in %v", next.Status.StoredVersions, first.Status.StoredVersions)
	}
	expect(t, CustomResourceDefinitions.Validate(next), nil)
	next.Spec.Versions = next.Spec.Versions[1:]
	expect(t, CustomResourceDefinitions.Validate(next), []string{"status.storedVersions[0]: Invalid value"})

	other := first.DeepCopy()
	other.Spec.Scope, other.Spec.Names.Kind, other.Spec.Names.Plural, other.Spec.Group = "Cluster", "Other", "others", "example.org"
	expect(t, CustomResourceDefinitions.ValidateUpdate(other, first), []string{"spec.group: Invalid value", "spec.names.plural: Invalid value"})
	first.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: "Established", Status: "True"}}
	expect(t, CustomResourceDefinitions.ValidateUpdate(other, first), []string{"spec.group: Invalid value", "spec.names.plural: Invalid value", "spec.scope: Invalid value", "spec.names.kind: Invalid value"})

	first.Status.AcceptedNames.ShortNames = []string{"S"}
	expect(t, CustomResourceDefinitions.ValidateStatus(first, first), []string{"status.acceptedNames.shortNames[0]: Invalid value"})
}

func TestGroupsOfKubernetes(t *testing.T) {
	const at = "metadata.annotations[api-approved.kubernetes.io]: "
	for text, want := range map[string][]string{
		"": {at + "Required value"}, "unapproved, a test": nil, "https://example.com/1": nil, "because": {at + "Invalid value"},
	} {
		d := read(t, `{group: a.k8s.io, scope: Cluster, names: {plural: things, kind: Thing}, versions: [{`+v1+`, schema: {openAPIV3Schema: {type: object}}}]}`)
		d.Name = "things.a.k8s.io"
		if text != "" {
			d.Annotations = map[string]string{"api-approved.kubernetes.io": text}
		}
		expect(t, CustomResourceDefinitions.Validate(d), want)
	}
}

func TestDefaults(t *testing.T) {
	d := read(t, `{`+names+`}`)
	if n := d.Spec.Names; n.Singular != "thing" || n.ListKind != "ThingList" || d.Spec.Conversion == nil || d.Spec.Conversion.Strategy != "None" {
		t.Errorf("got %+v %+v", n, d.Spec.Conversion)
	}
}
