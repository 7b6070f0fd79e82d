package webhook

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/selection"

	"pilothouse.dev/apiserver/request"
)

// fieldsOf tells the requirements on fields; a service may take fewer of them into account, since each only narrows a request.
func fieldsOf(s *request.Selectors) *authorizationv1.FieldSelectorAttributes {
	var all []metav1.FieldSelectorRequirement
	for _, f := range s.Fields {
		op := metav1.FieldSelectorOpIn
		switch f.Operator {
		case selection.Equals, selection.DoubleEquals:
		case selection.NotEquals:
			op = metav1.FieldSelectorOpNotIn
		default:
			continue
		}
		all = append(all, metav1.FieldSelectorRequirement{Key: f.Field, Operator: op, Values: []string{f.Value}})
	}
	if all == nil {
		return nil
	}
	return &authorizationv1.FieldSelectorAttributes{Requirements: all}
}

func labelsOf(s *request.Selectors) *authorizationv1.LabelSelectorAttributes {
	var all []metav1.LabelSelectorRequirement
	for _, l := range s.Labels {
		one := metav1.LabelSelectorRequirement{Key: l.Key(), Values: l.ValuesUnsorted()}
		switch l.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			one.Operator = metav1.LabelSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			one.Operator = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			one.Operator = metav1.LabelSelectorOpExists
		case selection.DoesNotExist:
			one.Operator = metav1.LabelSelectorOpDoesNotExist
		default: // greater and less have no form here
			continue
		}
		all = append(all, one)
	}
	if all == nil {
		return nil
	}
	return &authorizationv1.LabelSelectorAttributes{Requirements: all}
}
