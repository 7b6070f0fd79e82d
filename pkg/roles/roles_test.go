package roles

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func role(name, label string, verbs ...string) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"part": label}}}
	for _, v := range verbs {
		r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{v}, APIGroups: []string{""}, Resources: []string{"pods"}})
	}
	return r
}

func TestUnion(t *testing.T) {
	selects := func(values ...string) *rbacv1.AggregationRule {
		a := &rbacv1.AggregationRule{}
		for _, v := range values {
			a.ClusterRoleSelectors = append(a.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: map[string]string{"part": v}})
		}
		return a
	}
	all := []*rbacv1.ClusterRole{role("z", "a", "get", "list"), role("b", "a", "list", "watch"), role("c", "other", "delete"), role("whole", "a", "patch")}
	for name, c := range map[string]struct {
		rule *rbacv1.AggregationRule
		want string
	}{
		"in the order of names, each once": {selects("a"), "list watch get"},
		"any of the selectors":             {selects("other", "a"), "list watch delete get"},
		"nothing is selected":              {selects("nobody"), ""},
		"an empty selector selects all":    {&rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}, "list watch delete get"},
		"not aggregated":                   {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			whole := all[3].DeepCopy()
			whole.AggregationRule = c.rule
			got, err := Union(whole, all)
			if err != nil {
				t.Fatal(err)
			}
			var verbs []string
			for _, r := range got {
				verbs = append(verbs, r.Verbs...)
			}
			if s := strings.Join(verbs, " "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
	broken := all[3].DeepCopy()
	broken.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}},
	}}}
	if _, err := Union(broken, all); err == nil {
		t.Error("a selector that cannot be read was read")
	}
}
