package events

import (
	"slices"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/apiserver/registry/kindtest"
)

const event = `
eventTime: "2026-01-01T00:00:00.123456Z"
reportingController: example.com/controller
reportingInstance: controller-1
action: Pulling
reason: Pulled
type: Normal
note: n
regarding: {kind: Pod, name: p, namespace: a}
`

func parse(t *testing.T, more string) *eventsv1.Event {
	t.Helper()
	fields := map[string]any{}
	for _, text := range []string{event, more} {
		if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
			t.Fatal(err)
		}
	}
	text, err := yaml.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	e := &eventsv1.Event{}
	if err := yaml.UnmarshalStrict(text, e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		name, more string
		want       []string
	}{
		{"good", `{series: {count: 2, lastObservedTime: "2026-01-01T00:00:00.000001Z"}}`, nil},
		{"nothing", `{eventTime: null, reportingController: "", reportingInstance: "", action: "", reason: "", type: ""}`,
			[]string{"action: Required value", "eventTime: Required value", "reason: Required value", "reportingController: Invalid value", "reportingController: Invalid value",
				"reportingController: Required value", "reportingInstance: Required value", "type: Invalid value"}},
		{"long", `{reportingInstance: ` + long + `, action: ` + long + `, reason: ` + long + `, note: ` + strings.Repeat("x", 1025) + `}`,
			[]string{"action: Invalid value", "note: Invalid value", "reason: Invalid value", "reportingInstance: Invalid value"}},
		{"odd", `{reportingController: a/b/c, type: Fatal}`, []string{"reportingController: Invalid value", "type: Invalid value"}},
		{"of old", `{deprecatedCount: 1, deprecatedFirstTimestamp: "2026-01-01T00:00:00Z", deprecatedLastTimestamp: "2026-01-01T00:00:00Z", deprecatedSource: {component: c}}`,
			[]string{"deprecatedCount: Invalid value", "deprecatedFirstTimestamp: Invalid value", "deprecatedLastTimestamp: Invalid value", "deprecatedSource: Invalid value"}},
		{"no series", `{series: {count: 1}}`, []string{"series.count: Invalid value", "series.lastObservedTime: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kindtest.Brief(Events.ValidateServed(parse(t, c.more), nil)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	for _, c := range []struct {
		name, more, old string
		want            []string
	}{
		{"again", `{series: {count: 2, lastObservedTime: "2026-01-01T00:00:00.000001Z"}}`, `{}`, nil},
		{"of the older version", `{eventTime: null, reportingController: "", action: "", deprecatedCount: 3, series: {count: 2, lastObservedTime: "2026-01-01T00:00:00.000001Z"}}`,
			`{eventTime: null, reportingController: "", action: "", deprecatedCount: 3}`, nil},
		{"everything else", `{}`, `{eventTime: "2026-01-01T00:00:00.123457Z", reportingController: a/b, reportingInstance: o, action: B, reason: B, type: Warning, note: o,
			regarding: {kind: Pod, name: q}, related: {kind: Node, name: x}, deprecatedCount: 4, deprecatedSource: {component: c},
			deprecatedFirstTimestamp: "2026-01-01T00:00:00Z", deprecatedLastTimestamp: "2026-01-01T00:00:00Z"}`,
			[]string{"action: Invalid value", "deprecatedCount: Invalid value", "deprecatedFirstTimestamp: Invalid value", "deprecatedLastTimestamp: Invalid value", "deprecatedSource: Invalid value",
				"eventTime: Invalid value", "note: Invalid value", "reason: Invalid value", "regarding: Invalid value", "related: Invalid value",
				"reportingController: Invalid value", "reportingInstance: Invalid value", "type: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kindtest.Brief(Events.ValidateServed(parse(t, c.more), parse(t, c.old))); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
