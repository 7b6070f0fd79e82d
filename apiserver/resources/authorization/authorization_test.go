package authorization

import (
	"slices"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

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

func TestValidate(t *testing.T) {
	get := &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}
	in := &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: "a"}
	url := &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/healthz"}
	selecting := func(s *authorizationv1.FieldSelectorAttributes, l *authorizationv1.LabelSelectorAttributes) registry.Object {
		return &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{FieldSelector: s, LabelSelector: l},
		}}
	}
	for _, c := range []struct {
		name string
		kind *registry.Resource
		obj  registry.Object
		want []string
	}{
		{"a resource", SubjectAccessReviews, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: get, User: "bob"}}, nil},
		{"a path, of a group", SubjectAccessReviews, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{NonResourceAttributes: url, Groups: []string{"devs"}}}, nil},
		{"both, of nobody", SubjectAccessReviews, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: get, NonResourceAttributes: url}},
			[]string{"spec.nonResourceAttributes: Invalid value", "spec.user: Invalid value"}},
		{"neither, and a name", SubjectAccessReviews, &authorizationv1.SubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: authorizationv1.SubjectAccessReviewSpec{User: "bob"}},
			[]string{"metadata: Invalid value", "spec.resourceAttributes: Invalid value"}},
		{"oneself", SelfSubjectAccessReviews, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: get}}, nil},
		{"oneself, nothing", SelfSubjectAccessReviews, &authorizationv1.SelfSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a"}},
			[]string{"metadata: Invalid value", "spec.resourceAttributes: Invalid value"}},
		{"here", LocalSubjectAccessReviews, &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: "a"},
			Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: in, User: "bob"}}, nil},
		{"elsewhere", LocalSubjectAccessReviews, &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: "b"},
			Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: in, User: "bob"}},
			[]string{"spec.resourceAttributes.namespace: Invalid value"}},
		{"a path here", LocalSubjectAccessReviews, &authorizationv1.LocalSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Namespace: "b", Labels: map[string]string{"a": "b"}},
			Spec:       authorizationv1.SubjectAccessReviewSpec{NonResourceAttributes: url, User: "bob"}},
			[]string{"metadata: Invalid value", "spec.nonResourceAttributes: Invalid value"}},
		{"selectors", SelfSubjectAccessReviews, selecting(&authorizationv1.FieldSelectorAttributes{RawSelector: "a=b"},
			&authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Exists"}}}), nil},
		{"empty selectors", SelfSubjectAccessReviews, selecting(&authorizationv1.FieldSelectorAttributes{}, &authorizationv1.LabelSelectorAttributes{}),
			[]string{"spec.resourceAttributes.fieldSelector.requirements: Required value", "spec.resourceAttributes.labelSelector.requirements: Required value"}},
		{"selectors twice and bad", SelfSubjectAccessReviews, selecting(
			&authorizationv1.FieldSelectorAttributes{RawSelector: "a=b", Requirements: []metav1.FieldSelectorRequirement{{Operator: "In"}}},
			&authorizationv1.LabelSelectorAttributes{RawSelector: "a=b", Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}),
			[]string{
				"spec.resourceAttributes.fieldSelector.rawSelector: Invalid value",
				"spec.resourceAttributes.fieldSelector.requirements[0].key: Required value",
				"spec.resourceAttributes.fieldSelector.requirements[0].values: Required value",
				"spec.resourceAttributes.labelSelector.rawSelector: Invalid value",
				"spec.resourceAttributes.labelSelector.requirements[0].operator: Invalid value",
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brief(c.kind.Validate(c.obj)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
