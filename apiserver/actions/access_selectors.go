package actions

import (
	"errors"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"pilothouse.dev/apiserver/request"
)

// selectors reads what narrows the request that a review asks about, in either form. What cannot be read is left out and told by the
// error: every requirement only narrows, so the request then is taken for a wider one
// (https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/subject-access-review-v1/).
func selectors(a *authorizationv1.ResourceAttributes) (*request.Selectors, error) {
	var rawFields, rawLabels string
	if a.FieldSelector != nil && len(a.FieldSelector.Requirements) == 0 {
		rawFields = a.FieldSelector.RawSelector
	}
	if a.LabelSelector != nil && len(a.LabelSelector.Requirements) == 0 {
		rawLabels = a.LabelSelector.RawSelector
	}
	s, ofFields, ofLabels := request.ReadSelectors(rawFields, rawLabels)
	var errs []error
	if ofFields != nil {
		errs = append(errs, fmt.Errorf("spec.resourceAttributes.fieldSelector ignored due to parse error: %w", ofFields))
	}
	if ofLabels != nil {
		errs = append(errs, fmt.Errorf("spec.resourceAttributes.labelSelector ignored due to parse error: %w", ofLabels))
	}
	if s == nil {
		s = &request.Selectors{}
	}
	if a.FieldSelector != nil {
		for _, r := range a.FieldSelector.Requirements {
			f, err := fieldRequirement(&r)
			if err != nil {
				errs = append(errs, fmt.Errorf("spec.resourceAttributes.fieldSelector partially ignored due to parse error: %w", err))
				continue
			}
			s.Fields = append(s.Fields, f)
		}
	}
	if a.LabelSelector != nil {
		for _, r := range a.LabelSelector.Requirements {
			l, err := labelRequirement(&r)
			if err != nil {
				errs = append(errs, fmt.Errorf("spec.resourceAttributes.labelSelector partially ignored due to parse error: %w", err))
				continue
			}
			s.Labels = append(s.Labels, *l)
		}
	}
	if len(s.Fields)+len(s.Labels) == 0 {
		s = nil
	}
	return s, errors.Join(errs...)
}

func fieldRequirement(r *metav1.FieldSelectorRequirement) (fields.Requirement, error) {
	if len(r.Values) == 1 {
		switch r.Operator {
		case metav1.FieldSelectorOpIn:
			return fields.Requirement{Field: r.Key, Operator: selection.Equals, Value: r.Values[0]}, nil
		case metav1.FieldSelectorOpNotIn:
			return fields.Requirement{Field: r.Key, Operator: selection.NotEquals, Value: r.Values[0]}, nil
		}
	}
	return fields.Requirement{}, fmt.Errorf("fields are compared with In or NotIn and one value: %q %s %q", r.Key, r.Operator, r.Values)
}

func labelRequirement(r *metav1.LabelSelectorRequirement) (*labels.Requirement, error) {
	ops := map[metav1.LabelSelectorOperator]selection.Operator{
		metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	op, ok := ops[r.Operator]
	if !ok {
		return nil, fmt.Errorf("%q is not a valid label selector operator", r.Operator)
	}
	return labels.NewRequirement(r.Key, op, r.Values)
}
