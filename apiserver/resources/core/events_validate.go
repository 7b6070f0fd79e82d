package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	longestEventWord = 128  // reason, action, reporting instance
	longestEventNote = 1024 // the message
)

// validateEvent asks more of events with an eventTime, which only writers of the newer form set.
func validateEvent(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	about := e.InvolvedObject.Namespace
	stray := about != e.Namespace
	if about == "" {
		stray = e.Namespace != metav1.NamespaceDefault && (e.EventTime.IsZero() || e.Namespace != metav1.NamespaceSystem)
	}
	if stray && (about == "" || e.EventTime.IsZero()) {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace"))
	}
	if e.EventTime.IsZero() {
		return errs
	}
	word := func(name, value string) {
		path := field.NewPath(name)
		if value == "" {
			errs = append(errs, field.Required(path, ""))
		}
		if len(value) > longestEventWord {
			errs = append(errs, field.Invalid(path, "", fmt.Sprintf("can have at most %v characters", longestEventWord)))
		}
	}
	component := field.NewPath("reportingComponent")
	if e.ReportingController == "" {
		errs = append(errs, field.Required(component, ""))
	}
	for _, msg := range validation.IsQualifiedName(e.ReportingController) {
		errs = append(errs, field.Invalid(component, e.ReportingController, msg))
	}
	word("reportingInstance", e.ReportingInstance)
	word("action", e.Action)
	word("reason", e.Reason)
	if len(e.Message) > longestEventNote {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", fmt.Sprintf("can have at most %v characters", longestEventNote)))
	}
	return errs
}
