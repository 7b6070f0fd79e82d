package apiregistration

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
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

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		test, name, spec, cells string
		want                    []string
	}{
		{"local", "v1.apps", `{group: apps, version: v1, groupPriorityMinimum: 17800, versionPriority: 15}`, "[v1.apps Local True]", nil},
		{"core", "v1.", `{version: v1, groupPriorityMinimum: 18000, versionPriority: 1}`, "[v1. Local True]", nil},
		{"elsewhere", "v1.a.example.com", `{group: a.example.com, version: v1, groupPriorityMinimum: 100, versionPriority: 1, service: {name: q, namespace: s}}`, "[v1.a.example.com s/q Unknown]", nil},
		{"nothing", "a", `{}`, "", []string{"metadata.name: Invalid value", "spec.group: Required value", "spec.groupPriorityMinimum: Invalid value", "spec.version: Invalid value", "spec.versionPriority: Invalid value"}},
		{"numbers", "v1.A", `{group: A, version: v1, groupPriorityMinimum: 20001, versionPriority: 1001, caBundle: eA==, insecureSkipTLSVerify: true}`, "", []string{
			"spec.caBundle: Invalid value", "spec.group: Invalid value", "spec.groupPriorityMinimum: Invalid value", "spec.insecureSkipTLSVerify: Invalid value", "spec.versionPriority: Invalid value"}},
		{"service", "v1.apps", `{group: apps, version: v1, groupPriorityMinimum: 1, versionPriority: 1, caBundle: eA==, insecureSkipTLSVerify: true, service: {port: 70000}}`, "", []string{
			"spec.insecureSkipTLSVerify: Invalid value", "spec.service.name: Required value", "spec.service.namespace: Required value", "spec.service.port: Invalid value"}},
	} {
		t.Run(c.test, func(t *testing.T) {
			s := &apiregistrationv1.APIService{}
			if err := yaml.UnmarshalStrict([]byte("spec: "+c.spec), s); err != nil {
				t.Fatal(err)
			}
			s.Name = c.name
			APIServices.Default(s)
			APIServices.BeforeCreate(s)
			if got := brief(APIServices.Validate(s)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := fmt.Sprint(APIServices.Cells(s)[:3]); c.cells != "" && got != c.cells {
				t.Errorf("cells %s, want %s", got, c.cells)
			}
		})
	}
	s := &apiregistrationv1.APIService{}
	s.Status.Conditions = []apiregistrationv1.APIServiceCondition{{Type: "Available", Status: "False", Reason: "Missing"}, {Type: "Other", Status: "X"}}
	if got := brief(APIServices.ValidateStatus(s, s)); !slices.Equal(got, []string{"status.conditions[1].status: Unsupported value"}) {
		t.Errorf("status: %q", got)
	}
	if got := available(s); got != "False (Missing)" {
		t.Errorf("available: %s", got)
	}
}
