package flowcontrol

import (
	"fmt"
	"slices"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
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

func check(t *testing.T, kind *registry.Resource, name, spec string, want []string) {
	t.Helper()
	obj := kind.New()
	if err := yaml.UnmarshalStrict([]byte("spec: "+spec), obj); err != nil {
		t.Fatal(err)
	}
	obj.SetName(name)
	kind.Default(obj)
	if got := brief(kind.Validate(obj)); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestValidateFlow(t *testing.T) {
	const to = `priorityLevelConfiguration: {name: a}`
	const who = `subjects: [{kind: Group, group: {name: "*"}}]`
	const what = `nonResourceRules: [{verbs: ["*"], nonResourceURLs: ["*"]}]`
	for _, c := range []struct {
		test, name, spec string
		want             []string
	}{
		{"good", "a", `{` + to + `, rules: [{` + who + `, ` + what + `}]}`, nil},
		{"nothing", "a", `{}`, []string{"spec.priorityLevelConfiguration.name: Required value"}},
		{"first", "a", `{` + to + `, matchingPrecedence: 1}`, []string{"spec.matchingPrecedence: Invalid value"}},
		{"negative", "a", `{` + to + `, matchingPrecedence: -1}`, []string{"spec.matchingPrecedence: Invalid value"}},
		{"beyond", "a", `{` + to + `, matchingPrecedence: 10001}`, []string{"spec.matchingPrecedence: Invalid value"}},
		{"method", "a", `{priorityLevelConfiguration: {name: A}, distinguisherMethod: {type: X}}`,
			[]string{"spec.distinguisherMethod.type: Unsupported value", "spec.priorityLevelConfiguration.name: Invalid value"}},
		{"empty rule", "a", `{` + to + `, rules: [{}]}`, []string{"spec.rules[0]: Required value", "spec.rules[0].subjects: Required value"}},
		{"subjects", "a", `{` + to + `, rules: [{` + what + `, subjects: [{kind: X}, {kind: User, group: {name: a}}, {kind: User, user: {}},
			{kind: Group, group: {}, serviceAccount: {name: a, namespace: b}}, {kind: ServiceAccount, serviceAccount: {name: A, namespace: B}},
			{kind: ServiceAccount, serviceAccount: {}, user: {name: a}}, {kind: ServiceAccount, serviceAccount: {name: "*", namespace: b}}]}]}`, []string{
			"spec.rules[0].subjects[0].kind: Unsupported value",
			"spec.rules[0].subjects[1].group: Forbidden",
			"spec.rules[0].subjects[1].user: Required value",
			"spec.rules[0].subjects[2].user.name: Required value",
			"spec.rules[0].subjects[3].group.name: Required value",
			"spec.rules[0].subjects[3].serviceAccount: Forbidden",
			"spec.rules[0].subjects[4].serviceAccount.name: Invalid value",
			"spec.rules[0].subjects[4].serviceAccount.namespace: Invalid value",
			"spec.rules[0].subjects[5].serviceAccount.name: Required value",
			"spec.rules[0].subjects[5].serviceAccount.namespace: Required value",
			"spec.rules[0].subjects[5].user: Forbidden",
		}},
		{"resources", "a", `{` + to + `, rules: [{` + who + `, resourceRules: [{}, {verbs: ["*", get], apiGroups: ["*", a], resources: ["*", b], namespaces: ["*", c]},
			{verbs: [eat], apiGroups: [""], resources: [pods], namespaces: [A]}, {verbs: [get], apiGroups: [""], resources: [nodes], clusterScope: true}]}]}`, []string{
			"spec.rules[0].resourceRules[0].apiGroups: Required value",
			"spec.rules[0].resourceRules[0].namespaces: Required value",
			"spec.rules[0].resourceRules[0].resources: Required value",
			"spec.rules[0].resourceRules[0].verbs: Required value",
			"spec.rules[0].resourceRules[1].apiGroups: Invalid value",
			"spec.rules[0].resourceRules[1].namespaces: Invalid value",
			"spec.rules[0].resourceRules[1].resources: Invalid value",
			"spec.rules[0].resourceRules[1].verbs: Invalid value",
			"spec.rules[0].resourceRules[2].namespaces[0]: Invalid value",
			"spec.rules[0].resourceRules[2].verbs: Unsupported value",
		}},
		{"paths", "a", `{` + to + `, rules: [{` + who + `, nonResourceRules: [{verbs: [get]}, {verbs: [get], nonResourceURLs: ["*", /a]},
			{verbs: [get], nonResourceURLs: [/, /a, /a/*, "", a, "/a b", //, /*/b, /a*]}]}]}`, []string{
			"spec.rules[0].nonResourceRules[0].nonResourceURLs: Required value",
			"spec.rules[0].nonResourceRules[1].nonResourceURLs: Invalid value",
			"spec.rules[0].nonResourceRules[2].nonResourceURLs[3]: Invalid value",
			"spec.rules[0].nonResourceRules[2].nonResourceURLs[4]: Invalid value",
			"spec.rules[0].nonResourceRules[2].nonResourceURLs[5]: Invalid value",
			"spec.rules[0].nonResourceRules[2].nonResourceURLs[6]: Invalid value",
			"spec.rules[0].nonResourceRules[2].nonResourceURLs[7]: Invalid value",
			"spec.rules[0].nonResourceRules[2].nonResourceURLs[8]: Invalid value",
		}},
		{"another exempt", "exempt", `{` + to + `, matchingPrecedence: 1}`, []string{"spec: Invalid value"}},
		{"another catch-all", "catch-all", `{` + to + `, matchingPrecedence: 10000}`, []string{"spec: Invalid value"}},
	} {
		t.Run(c.test, func(t *testing.T) {
			slices.Sort(c.want)
			check(t, FlowSchemas, c.name, c.spec, c.want)
		})
	}
}

func TestValidateLevel(t *testing.T) {
	for _, c := range []struct {
		test, name, spec string
		want             []string
	}{
		{"rejecting", "a", `{type: Limited, limited: {limitResponse: {type: Reject}}}`, nil},
		{"queuing", "a", `{type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}`, nil},
		{"nothing", "a", `{}`, []string{"spec.type: Unsupported value"}},
		{"exempt by another name", "a", `{type: Exempt}`, []string{"spec.type: Invalid value"}},
		{"limited without", "a", `{type: Limited, exempt: {}}`, []string{"spec.exempt: Forbidden", "spec.limited: Required value"}},
		{"numbers", "a", `{type: Limited, limited: {nominalConcurrencyShares: -1, lendablePercent: 101, borrowingLimitPercent: -1, limitResponse: {type: X}}}`, []string{
			"spec.limited.borrowingLimitPercent: Invalid value", "spec.limited.lendablePercent: Invalid value",
			"spec.limited.limitResponse.type: Unsupported value", "spec.limited.nominalConcurrencyShares: Invalid value",
		}},
		{"rejecting with queues", "a", `{type: Limited, limited: {limitResponse: {type: Reject, queuing: {}}}}`, []string{"spec.limited.limitResponse.queuing: Forbidden"}},
		{"queuing without", "a", `{type: Limited, limited: {limitResponse: {type: Queue}}}`, []string{"spec.limited.limitResponse.queuing: Required value"}},
		{"negative", "a", `{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: -1, handSize: -1, queueLengthLimit: -1}}}}`, []string{
			"spec.limited.limitResponse.queuing.handSize: Invalid value", "spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value",
			"spec.limited.limitResponse.queuing.queues: Invalid value",
		}},
		{"a hand too large", "a", `{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 4, handSize: 5}}}}`, []string{"spec.limited.limitResponse.queuing.handSize: Invalid value"}},
		{"entropy", "a", `{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 512, handSize: 7}}}}`, []string{"spec.limited.limitResponse.queuing.handSize: Invalid value"}},
		{"queues", "a", `{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 10000001, handSize: 1}}}}`, []string{"spec.limited.limitResponse.queuing.queues: Invalid value"}},
		{"exempt", "exempt", `{type: Exempt, exempt: {nominalConcurrencyShares: 10, lendablePercent: 50}}`, nil},
		{"exempt and limited", "exempt", `{type: Exempt, exempt: {nominalConcurrencyShares: -1}, limited: {}}`,
			[]string{"spec.exempt.nominalConcurrencyShares: Invalid value", "spec.limited: Forbidden", "spec: Invalid value"}},
		{"catch-all", "catch-all", `{type: Limited, limited: {nominalConcurrencyShares: 5, limitResponse: {type: Reject}}}`, nil},
		{"another catch-all", "catch-all", `{type: Limited, limited: {nominalConcurrencyShares: 6, limitResponse: {type: Reject}}}`, []string{"spec: Invalid value"}},
	} {
		t.Run(c.test, func(t *testing.T) {
			slices.Sort(c.want)
			check(t, PriorityLevelConfigurations, c.name, c.spec, c.want)
		})
	}
}

// What every cluster has is itself legal.
func TestFixed(t *testing.T) {
	for _, name := range []string{"exempt", "catch-all"} {
		f := &flowcontrolv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *fixedFlow(name)}
		FlowSchemas.Default(f)
		if errs := FlowSchemas.Validate(f); len(errs) > 0 {
			t.Errorf("flow %s: %v", name, errs)
		}
		l := &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *fixedLevel(name)}
		PriorityLevelConfigurations.Default(l)
		if errs := PriorityLevelConfigurations.Validate(l); len(errs) > 0 {
			t.Errorf("level %s: %v", name, errs)
		}
	}
}

func TestDefaultsAndColumns(t *testing.T) {
	l := &flowcontrolv1.PriorityLevelConfiguration{Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: "Limited", Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{LimitResponse: flowcontrolv1.LimitResponse{Queuing: &flowcontrolv1.QueuingConfiguration{}}},
	}}
	l.Name = "l"
	PriorityLevelConfigurations.Default(l)
	if got := fmt.Sprint(PriorityLevelConfigurations.Cells(l)[:6]); got != "[l Limited 30 64 8 50]" {
		t.Errorf("level: %s", got)
	}
	if got := ptr.Deref(l.Spec.Limited.LendablePercent, -1); got != 0 {
		t.Errorf("lends %d", got)
	}
	f := &flowcontrolv1.FlowSchema{Spec: flowcontrolv1.FlowSchemaSpec{PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "l"}}}
	f.Name = "f"
	FlowSchemas.Default(f)
	f.Status.Conditions = []flowcontrolv1.FlowSchemaCondition{{Type: "Dangling", Status: "True"}, {Type: ""}, {Type: "Dangling"}}
	if cells := FlowSchemas.Cells(f); fmt.Sprint(cells[:4], cells[5]) != "[f l 1000 <none>]True" {
		t.Errorf("flow: %v", cells)
	}
	if got := brief(FlowSchemas.ValidateStatus(f, f)); !slices.Equal(got, []string{"status.conditions[1].type: Required value", "status.conditions[2].type: Duplicate value"}) {
		t.Errorf("status: %q", got)
	}
}
