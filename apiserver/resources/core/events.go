package core

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"

	"pilothouse.dev/apiserver/registry"
)

// eventLife is how long an event is kept after its last change, unless --event-ttl says otherwise.
const eventLife = time.Hour

// Events are what happened to objects. resources/events serves them as events.k8s.io, too.
var Events = registry.Define(registry.Kind[*corev1.Event]{
	Version: "v1", Kind: "Event", Plural: "events", Short: []string{"ev"},
	Namespaced: true,
	TTL:        func(*corev1.Event) time.Duration { return eventLife },
	Default:    defaultEvent,
	Validate:   validateEvent,
	FieldNames: []string{
		"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion",
		"involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
	},
	Fields:     eventFields,
	WholeTable: true,
	Columns:    EventColumns(func(e *corev1.Event) *corev1.Event { return e }),
})

func defaultEvent(e *corev1.Event) {
	if e.Type == "" && e.EventTime.IsZero() {
		e.Type = corev1.EventTypeNormal
	}
}

func eventFields(e *corev1.Event) fields.Set {
	o := &e.InvolvedObject
	return fields.Set{
		"involvedObject.kind":            o.Kind,
		"involvedObject.namespace":       o.Namespace,
		"involvedObject.name":            o.Name,
		"involvedObject.uid":             string(o.UID),
		"involvedObject.apiVersion":      o.APIVersion,
		"involvedObject.resourceVersion": o.ResourceVersion,
		"involvedObject.fieldPath":       o.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         orElse(e.Source.Component, e.ReportingController),
		"type":                           e.Type,
	}
}

// EventColumns are the columns of events in any served version, given how to see one as core/v1.
func EventColumns[T registry.Object](as func(T) *corev1.Event) []registry.Column[T] {
	col := func(name string, priority int32, about string, value func(*corev1.Event) any) registry.Column[T] {
		return registry.Column[T]{Name: name, Priority: priority, Description: about, Value: func(o T) any { return value(as(o)) }}
	}
	count := col("Count", 1, "How many times it was seen.", func(e *corev1.Event) any { return eventCount(e) })
	count.Type = "integer"
	name := col("Name", 1, "Name of the event.", func(e *corev1.Event) any { return e.Name })
	name.Format = "name"
	return []registry.Column[T]{
		col("Last Seen", 0, "When it was last seen.", func(e *corev1.Event) any { return eventLast(e) }),
		col("Type", 0, "Normal or Warning.", func(e *corev1.Event) any { return e.Type }),
		col("Reason", 0, "Why, in one word.", func(e *corev1.Event) any { return e.Reason }),
		col("Object", 0, "What it is about.", func(e *corev1.Event) any {
			return orElse(strings.ToLower(e.InvolvedObject.Kind), none) + "/" + e.InvolvedObject.Name
		}),
		col("Subobject", 1, "Which part of it.", func(e *corev1.Event) any { return e.InvolvedObject.FieldPath }),
		col("Source", 1, "Who says so.", func(e *corev1.Event) any { return eventSource(e) }),
		col("Message", 0, "What happened.", func(e *corev1.Event) any { return strings.TrimSpace(e.Message) }),
		col("First Seen", 1, "When it was first seen.", func(e *corev1.Event) any { return eventFirst(e) }),
		count,
		name,
	}
}

func eventFirst(e *corev1.Event) string {
	if e.FirstTimestamp.IsZero() {
		return microAge(e.EventTime)
	}
	return registry.AgeOf(e.FirstTimestamp)
}

func eventLast(e *corev1.Event) string {
	switch {
	case e.Series != nil:
		return microAge(e.Series.LastObservedTime)
	case !e.LastTimestamp.IsZero():
		return registry.AgeOf(e.LastTimestamp)
	}
	return eventFirst(e)
}

func microAge(t metav1.MicroTime) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(time.Since(t.Time))
}

func eventCount(e *corev1.Event) int64 {
	switch {
	case e.Series != nil:
		return int64(e.Series.Count)
	case e.Count != 0:
		return int64(e.Count)
	}
	return 1
}

func eventSource(e *corev1.Event) string {
	parts := []string{orElse(e.Source.Component, e.ReportingController)}
	if host := orElse(e.Source.Host, e.ReportingInstance); host != "" {
		parts = append(parts, host)
	}
	return strings.Join(parts, ", ")
}
