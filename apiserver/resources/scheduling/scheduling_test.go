package scheduling

import (
	"testing"

	"pilothouse.dev/apiserver/registry/kindtest"
)

func TestPriorityClasses(t *testing.T) {
	const class = `{value: 1000, description: many}`
	kindtest.Create(t, PriorityClasses, class, []kindtest.Case{
		{Name: "good"},
		{Name: "negative", Diff: `{value: -5}`},
		{Name: "the highest", Diff: `{value: 1000000000}`},
		{Name: "too high", Diff: `{value: 1000000001}`, Want: []string{"value: Forbidden"}},
		{Name: "the system's", Diff: `{metadata: {name: system-node-critical}, value: 2000001000}`},
		{Name: "the system's, another value", Diff: `{metadata: {name: system-node-critical}}`, Want: []string{"metadata.name: Forbidden"}},
		{Name: "the system's, for all", Diff: `{metadata: {name: system-cluster-critical}, value: 2000000000, globalDefault: true}`, Want: []string{"metadata.name: Forbidden"}},
		{Name: "like the system's", Diff: `{metadata: {name: system-mine}}`, Want: []string{"metadata.name: Forbidden"}},
		{Name: "preempts at times", Diff: `{preemptionPolicy: Sometimes}`, Want: []string{"preemptionPolicy: Unsupported value"}},
		{Name: "preempts as", Diff: `{preemptionPolicy: ""}`, Want: []string{"preemptionPolicy: Required value"}},
	})
	kindtest.Update(t, PriorityClasses, class, []kindtest.Case{
		{Name: "described", Diff: `{description: more}`},
		{Name: "another value", Diff: `{value: 7}`, Want: []string{"value: Forbidden"}},
		{Name: "another policy", Diff: `{preemptionPolicy: Never}`, Want: []string{"preemptionPolicy: Invalid value"}},
	})
	kindtest.Shows(t, PriorityClasses, kindtest.New(t, PriorityClasses, class, ""),
		map[string]string{"Value": "1000", "Global-Default": "false", "PreemptionPolicy": "PreemptLowerPriority"})
}
