// Package events serves core/v1 events under events.k8s.io, too, as a pair of functions to and from the stored form.
package events

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/core"
)

// Events are core.Events with newer names.
var Events = registry.DefineVersion(registry.Version[*eventsv1.Event, *corev1.Event]{
	Group: "events.k8s.io", Version: "v1", Kind: "Event", Plural: "events", Short: []string{"ev"},
	Of:         core.Events,
	To:         toServed,
	From:       fromServed,
	Validate:   validateEvent,
	WholeTable: true,
	Columns:    core.EventColumns(fromServed),
	FieldNames: []string{
		"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion",
		"regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type",
	},
	FieldToStored: func(name string) string {
		if rest, ok := strings.CutPrefix(name, "regarding."); ok {
			return "involvedObject." + rest
		}
		if name == "reportingController" {
			return "reportingComponent"
		}
		return name
	},
})

func toServed(e *corev1.Event) *eventsv1.Event {
	e = e.DeepCopy()
	out := &eventsv1.Event{
		ObjectMeta:               e.ObjectMeta,
		EventTime:                e.EventTime,
		ReportingController:      e.ReportingController,
		ReportingInstance:        e.ReportingInstance,
		Action:                   e.Action,
		Reason:                   e.Reason,
		Regarding:                e.InvolvedObject,
		Related:                  e.Related,
		Note:                     e.Message,
		Type:                     e.Type,
		DeprecatedSource:         e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp:  e.LastTimestamp,
		DeprecatedCount:          e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func fromServed(e *eventsv1.Event) *corev1.Event {
	e = e.DeepCopy()
	out := &corev1.Event{
		ObjectMeta:          e.ObjectMeta,
		EventTime:           e.EventTime,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
		Action:              e.Action,
		Reason:              e.Reason,
		InvolvedObject:      e.Regarding,
		Related:             e.Related,
		Message:             e.Note,
		Type:                e.Type,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}
