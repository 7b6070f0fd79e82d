package admissionregistration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/apiserver/registry"
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

// read makes a defaulted object named a of YAML.
func read(t *testing.T, kind *registry.Resource, text string) registry.Object {
	t.Helper()
	obj := kind.New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	obj.SetName("a")
	kind.Default(obj)
	return obj
}

func check(t *testing.T, kind *registry.Resource, text string, want []string) {
	t.Helper()
	slices.Sort(want)
	if got := brief(kind.Validate(read(t, kind, text))); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

// under puts a path before each of the wanted errors.
func under(path string, want []string) []string {
	var out []string
	for _, w := range want {
		out = append(out, path+w)
	}
	return out
}

func TestValidateWebhooks(t *testing.T) {
	const good = `name: a.example.com, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: "https://a"}`
	many := strings.Repeat(`{name: a, expression: "true"},`, mostConditions+1)
	for _, c := range []struct {
		name, hook string
		want       []string
	}{
		{"good", `{` + good + `}`, nil},
		{"nothing", `{}`, []string{".name: Required value", ".sideEffects: Required value", ".admissionReviewVersions: Required value", ".clientConfig: Required value"}},
		{"short name", `{name: a.b, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: "https://a"}}`, []string{".name: Invalid value"}},
		{"enumerations", `{name: a.example.com, sideEffects: Unknown, admissionReviewVersions: [v1], clientConfig: {url: "https://a"}, failurePolicy: X, matchPolicy: X, timeoutSeconds: 31}`,
			[]string{".sideEffects: Unsupported value", ".failurePolicy: Unsupported value", ".matchPolicy: Unsupported value", ".timeoutSeconds: Invalid value"}},
		{"reviews", `{name: a.example.com, sideEffects: None, admissionReviewVersions: [v2, v2, "V"], clientConfig: {url: "https://a"}}`,
			[]string{".admissionReviewVersions: Invalid value", ".admissionReviewVersions[1]: Invalid value", ".admissionReviewVersions[2]: Invalid value"}},
		{"selectors", `{` + good + `, namespaceSelector: {matchExpressions: [{key: a, operator: X}]}, objectSelector: {matchLabels: {a: "?"}}}`,
			[]string{".namespaceSelector.matchExpressions[0].operator: Invalid value", ".objectSelector.matchLabels: Invalid value"}},
		{"rule", `{` + good + `, rules: [{}]}`, []string{".rules[0].operations: Required value", ".rules[0].apiGroups: Required value",
			".rules[0].apiVersions: Required value", ".rules[0].resources: Required value"}},
		{"stars", `{` + good + `, rules: [{operations: ["*", CREATE, X], apiGroups: ["*", a], apiVersions: ["*", ""], resources: ["*", a, ""], scope: X}]}`, []string{
			".rules[0].operations: Invalid value", ".rules[0].operations[2]: Unsupported value", ".rules[0].apiGroups: Invalid value",
			".rules[0].apiVersions: Invalid value", ".rules[0].apiVersions[1]: Required value", ".rules[0].resources: Invalid value",
			".rules[0].resources[2]: Required value", ".rules[0].scope: Unsupported value"}},
		{"subresources", `{` + good + `, rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: ["a/*", a/b, "*/c", d/c, "*/*"]}]}`, []string{
			".rules[0].resources: Invalid value", ".rules[0].resources[1]: Invalid value", ".rules[0].resources[3]: Invalid value"}},
		{"conditions", `{` + good + `, matchConditions: [{name: a, expression: " "}, {name: a, expression: "true"}, {expression: "true"}, {name: "-", expression: "true"}]}`, []string{
			".matchConditions[0].expression: Required value", ".matchConditions[1].name: Duplicate value", ".matchConditions[2].name: Required value",
			".matchConditions[3].name: Invalid value"}},
		{"many conditions", `{` + good + `, matchConditions: [` + many + `]}`, append([]string{".matchConditions: Too many"},
			slices.Collect(func(yield func(string) bool) {
				for i := range mostConditions {
					yield(fmt.Sprintf(".matchConditions[%d].name: Duplicate value", i+1))
				}
			})...)},
		{"service", `{name: a.example.com, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {service: {name: a, namespace: b, port: 70000}}}`,
			[]string{".clientConfig.service.port: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := under("webhooks[0]", c.want)
			check(t, ValidatingWebhookConfigurations, `webhooks: [`+c.hook+`]`, want)
			check(t, MutatingWebhookConfigurations, `webhooks: [`+c.hook+`]`, want)
		})
	}
	check(t, ValidatingWebhookConfigurations, `webhooks: [{`+good+`}, {`+good+`}]`, []string{"webhooks[1].name: Duplicate value"})
	check(t, MutatingWebhookConfigurations, `webhooks: [{`+good+`, reinvocationPolicy: X}]`, []string{"webhooks[0].reinvocationPolicy: Unsupported value"})
}

func TestDefaultsOfWebhooks(t *testing.T) {
	text := `webhooks: [{name: a.example.com, clientConfig: {service: {name: a, namespace: b}}, rules: [{}]}]`
	m := read(t, MutatingWebhookConfigurations, text).(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks[0]
	got := fmt.Sprint(*m.FailurePolicy, *m.MatchPolicy, *m.NamespaceSelector, *m.ObjectSelector, *m.TimeoutSeconds, *m.ReinvocationPolicy,
		*m.ClientConfig.Service.Port, *m.Rules[0].Scope)
	want := fmt.Sprint("Fail", "Equivalent", metav1.LabelSelector{}, metav1.LabelSelector{}, 10, "Never", 443, "*")
	if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got %s, want %s", got, want)
	}
	v := read(t, ValidatingWebhookConfigurations, text)
	if cells := ValidatingWebhookConfigurations.Cells(v); cells[1] != int64(1) {
		t.Errorf("cells %v", cells)
	}
}

const match = `matchConstraints: {resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods]}]}`

// What is wrong in any policy is wrong in both kinds.
func TestValidatePolicies(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"good", match, nil},
		{"no match", `failurePolicy: X`, []string{".failurePolicy: Unsupported value", ".matchConstraints: Required value"}},
		{"no rules", `matchConstraints: {matchPolicy: X}`, []string{".matchConstraints.matchPolicy: Unsupported value", ".matchConstraints.resourceRules: Required value"}},
		{"names", `matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods], resourceNames: [a, a, b/c]}],
			excludeResourceRules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1]}]}`, []string{
			".matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value", ".matchConstraints.resourceRules[0].resourceNames[2]: Invalid value",
			".matchConstraints.excludeResourceRules[0].resources: Required value"}},
		{"parameters", match + `, paramKind: {apiVersion: a/b/c, kind: K_}`, []string{".paramKind.apiVersion: Invalid value", ".paramKind.kind: Invalid value"}},
		{"parameters' group", match + `, paramKind: {apiVersion: A/V, kind: K}`, []string{".paramKind.apiVersion: Invalid value", ".paramKind.apiVersion: Invalid value"}},
		{"empty parameters", match + `, paramKind: {}`, []string{".paramKind.apiVersion: Required value", ".paramKind.kind: Required value"}},
		{"variables", match + `, variables: [{name: a, expression: "1"}, {name: a, expression: ""}, {name: in, expression: "1"}, {name: 1a, expression: "1"}, {expression: "1"}]`, []string{
			".variables[1].name: Duplicate value", ".variables[1].expression: Required value", ".variables[2].name: Invalid value",
			".variables[3].name: Invalid value", ".variables[4].name: Required value"}},
		{"conditions", match + `, matchConditions: [{name: a}]`, []string{".matchConditions[0].expression: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := under("spec", c.want)
			check(t, ValidatingAdmissionPolicies, `spec: {`+c.spec+`, validations: [{expression: "true"}]}`, want)
			check(t, MutatingAdmissionPolicies, `spec: {`+c.spec+`, reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[]"}}]}`, want)
		})
	}
}

func TestValidateValidations(t *testing.T) {
	many := strings.Repeat(`{key: a, valueExpression: "1"},`, mostAnnotations+1)
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"none", ``, []string{"spec.auditAnnotations: Required value", "spec.validations: Required value"}},
		{"annotation alone", `auditAnnotations: [{key: a, valueExpression: "'x'"}]`, nil},
		{"annotations", `auditAnnotations: [{key: a, valueExpression: ""}, {key: a, valueExpression: "1"}, {key: "", valueExpression: "1"}, {key: "a/b", valueExpression: "` + strings.Repeat("x", longestValue+1) + `"}]`, []string{
			"spec.auditAnnotations[0].valueExpression: Required value", "spec.auditAnnotations[1].key: Duplicate value", "spec.auditAnnotations[2].key: Required value",
			"spec.auditAnnotations[3].key: Invalid value", "spec.auditAnnotations[3].valueExpression: Too long"}},
		{"many annotations", `auditAnnotations: [` + many + `]`, append([]string{"spec.auditAnnotations: Too many"},
			slices.Collect(func(yield func(string) bool) {
				for i := range mostAnnotations {
					yield(fmt.Sprintf("spec.auditAnnotations[%d].key: Duplicate value", i+1))
				}
			})...)},
		{"validations", `validations: [{expression: " "}, {expression: "a\nb"}, {expression: "1", message: " ", messageExpression: " "}, {expression: "1", message: "a\nb", reason: NotFound}, {expression: "1", reason: Invalid}]`, []string{
			"spec.validations[0].expression: Required value", "spec.validations[1].message: Required value", "spec.validations[2].message: Invalid value",
			"spec.validations[2].messageExpression: Invalid value", "spec.validations[3].message: Invalid value", "spec.validations[3].reason: Unsupported value"}},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, ValidatingAdmissionPolicies, `spec: {`+match+`, `+c.spec+`}`, c.want) })
	}
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	p.Status.TypeChecking = &admissionregistrationv1.TypeChecking{ExpressionWarnings: []admissionregistrationv1.ExpressionWarning{{}}}
	p.Status.Conditions = []metav1.Condition{{Type: "A", Status: "True", LastTransitionTime: metav1.Now()}}
	want := []string{"status.conditions[0].reason: Required value", "status.typeChecking.expressionWarnings[0].fieldRef: Required value", "status.typeChecking.expressionWarnings[0].warning: Required value"}
	if got := brief(ValidatingAdmissionPolicies.ValidateStatus(p, p)); !slices.Equal(got, want) {
		t.Errorf("status: %q, want %q", got, want)
	}
}

func TestValidateMutations(t *testing.T) {
	check(t, MutatingAdmissionPolicies, `spec: {`+match+`}`, []string{"spec.mutations: Required value", "spec.reinvocationPolicy: Required value"})
	check(t, MutatingAdmissionPolicies, `spec: {reinvocationPolicy: X, mutations: [{}, {patchType: X}, {patchType: JSONPatch}, {patchType: JSONPatch, jsonPatch: {expression: ""}},
		{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{}"}, jsonPatch: {expression: "[]"}}],
		matchConstraints: {resourceRules: [{operations: [CREATE, DELETE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]}}`, []string{
		"spec.reinvocationPolicy: Unsupported value", "spec.mutations[0].patchType: Required value", "spec.mutations[1].patchType: Unsupported value",
		"spec.mutations[2].jsonPatch: Required value", "spec.mutations[3].jsonPatch.expression: Required value", "spec.mutations[4].jsonPatch: Invalid value",
		"spec.matchConstraints.resourceRules[0].operations[1]: Unsupported value"})
}

func TestValidateBindings(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"good", `policyName: a.b, paramRef: {name: p, parameterNotFoundAction: Deny}, matchResources: {}`, nil},
		{"no policy", `paramRef: {}`, []string{"spec.policyName: Required value", "spec.paramRef: Required value", "spec.paramRef.parameterNotFoundAction: Required value"}},
		{"bad names", `policyName: A, paramRef: {name: a/b, parameterNotFoundAction: X}`, []string{"spec.policyName: Invalid value", "spec.paramRef.name: Invalid value",
			"spec.paramRef.parameterNotFoundAction: Unsupported value"}},
		{"both", `policyName: a, paramRef: {name: a, selector: {matchLabels: {a: b}}, parameterNotFoundAction: Allow}`, []string{"spec.paramRef.name: Forbidden", "spec.paramRef.selector: Forbidden"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, ValidatingAdmissionPolicyBindings, `spec: {`+c.spec+`, validationActions: [Deny]}`, c.want)
			check(t, MutatingAdmissionPolicyBindings, `spec: {`+c.spec+`}`, c.want)
		})
	}
	check(t, ValidatingAdmissionPolicyBindings, `spec: {policyName: a}`, []string{"spec.validationActions: Required value"})
	check(t, ValidatingAdmissionPolicyBindings, `spec: {policyName: a, validationActions: [Deny, Warn, Warn, X]}`, []string{
		"spec.validationActions: Invalid value", "spec.validationActions[2]: Duplicate value", "spec.validationActions[3]: Unsupported value"})
	check(t, MutatingAdmissionPolicyBindings, `spec: {policyName: a, matchResources: {excludeResourceRules: [{operations: [DELETE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]}}`,
		[]string{"spec.matchResources.excludeResourceRules[0].operations[0]: Unsupported value"})
}

func TestColumns(t *testing.T) {
	for _, c := range []struct {
		kind       *registry.Resource
		text, want string
	}{
		{ValidatingAdmissionPolicies, `spec: {validations: [{expression: a}], paramKind: {apiVersion: v1, kind: ConfigMap}}`, "[a 1 v1/ConfigMap]"},
		{MutatingAdmissionPolicies, `spec: {}`, "[a 0 <unset>]"},
		{ValidatingAdmissionPolicyBindings, `spec: {policyName: p, paramRef: {name: q, namespace: s}}`, "[a p s/q]"},
		{ValidatingAdmissionPolicyBindings, `spec: {policyName: p, paramRef: {selector: {matchLabels: {x: z}}}}`, "[a p x=z]"},
		{MutatingAdmissionPolicyBindings, `spec: {policyName: p, paramRef: {name: q}}`, "[a p q]"},
		{MutatingAdmissionPolicyBindings, `spec: {policyName: p}`, "[a p <unset>]"},
	} {
		if got := fmt.Sprint(c.kind.Cells(read(t, c.kind, c.text))[:3]); got != c.want {
			t.Errorf("%s: got %s, want %s", c.text, got, c.want)
		}
	}
}
