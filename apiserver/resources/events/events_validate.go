package events

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	longestWord = 128  // reason, action, reporting instance
	longestNote = 1024 // the message
	leastSeries = 2    // one event is no series
)

// validateEvent asks of events that are made in this version what it asks for; old, when there is one, may have been made in
// the older version, so of a change it asks only that the event stays what it was.
func validateEvent(e, old *eventsv1.Event) field.ErrorList {
	errs := validateSeries(e.Series)
	if old != nil {
		return append(errs, validateSame(e, old)...)
	}
	word := func(name, value string) {
		path := field.NewPath(name)
		if value == "" {
			errs = append(errs, field.Required(path, ""))
		}
		if len(value) > longestWord {
			errs = append(errs, field.Invalid(path, "", fmt.Sprintf("can have at most %v characters", longestWord)))
		}
	}
	unset := func(name string, is bool) {
		if !is {
			errs = append(errs, field.Invalid(field.NewPath(name), "", "needs to be unset"))
		}
	}
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	controller := field.NewPath("reportingController")
	if e.ReportingController == "" {
		errs = append(errs, field.Required(controller, ""))
	}
	for _, msg := range validation.IsQualifiedName(e.ReportingController) {
		errs = append(errs, field.Invalid(controller, e.ReportingController, msg))
	}
	word("reportingInstance", e.ReportingInstance)
	word("action", e.Action)
	word("reason", e.Reason)
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	unset("deprecatedFirstTimestamp", e.DeprecatedFirstTimestamp.IsZero())
	unset("deprecatedLastTimestamp", e.DeprecatedLastTimestamp.IsZero())
	unset("deprecatedCount", e.DeprecatedCount == 0)
	unset("deprecatedSource", e.DeprecatedSource == corev1.EventSource{})
	if len(e.Note) > longestNote {
		errs = append(errs, field.Invalid(field.NewPath("note"), "", fmt.Sprintf("can have at most %v characters", longestNote)))
	}
	return errs
}

func validateSeries(s *eventsv1.EventSeries) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	if s.Count < leastSeries {
		errs = append(errs, field.Invalid(field.NewPath("series", "count"), "", "should be at least 2"))
	}
	if s.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series", "lastObservedTime"), ""))
	}
	return errs
}

// validateSame checks that an event still says what happened; only that it happened again may be noted.
func validateSame(e, old *eventsv1.Event) field.ErrorList {
	var errs field.ErrorList
	same := func(name string, now, was any) {
		errs = append(errs, apivalidation.ValidateImmutableField(now, was, field.NewPath(name))...)
	}
	same("regarding", e.Regarding, old.Regarding)
	same("reason", e.Reason, old.Reason)
	same("note", e.Note, old.Note)
	same("deprecatedSource", e.DeprecatedSource, old.DeprecatedSource)
	same("deprecatedFirstTimestamp", e.DeprecatedFirstTimestamp, old.DeprecatedFirstTimestamp)
	same("deprecatedLastTimestamp", e.DeprecatedLastTimestamp, old.DeprecatedLastTimestamp)
	same("deprecatedCount", e.DeprecatedCount, old.DeprecatedCount)
	same("type", e.Type, old.Type)
	same("eventTime", exact(e.EventTime), exact(old.EventTime))
	same("action", e.Action, old.Action)
	same("related", e.Related, old.Related)
	same("reportingController", e.ReportingController, old.ReportingController)
	same("reportingInstance", e.ReportingInstance, old.ReportingInstance)
	return errs
}

// exact is a time to the microsecond: what is finer does not survive JSON.
func exact(t metav1.MicroTime) int64 { return t.Truncate(time.Microsecond).UnixMicro() }
