package policy

import (
	"testing"

	"pilothouse.dev/apiserver/registry/kindtest"
)

func TestPodDisruptionBudgets(t *testing.T) {
	const budget = `{spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}}`
	kindtest.Create(t, PodDisruptionBudgets, budget, []kindtest.Case{
		{Name: "good"},
		{Name: "a percentage", Diff: `{spec: {minAvailable: 50%, unhealthyPodEvictionPolicy: AlwaysAllow}}`},
		{Name: "of nothing", Diff: `{spec: null}`},
		{Name: "both", Diff: `{spec: {maxUnavailable: 1}}`, Want: []string{"spec: Invalid value"}},
		{Name: "negative", Diff: `{spec: {minAvailable: -1}}`, Want: []string{"spec.minAvailable: Invalid value"}},
		{Name: "words", Diff: `{spec: {minAvailable: many}}`, Want: []string{"spec.minAvailable: Invalid value"}},
		{Name: "too much", Diff: `{spec: {minAvailable: null, maxUnavailable: 101%}}`, Want: []string{"spec.maxUnavailable: Invalid value"}},
		{Name: "far too much", Diff: `{spec: {minAvailable: "99999999999999999999%"}}`, Want: []string{"spec.minAvailable: Invalid value"}},
		{Name: "bad selector", Diff: `{spec: {selector: {matchLabels: {a: "b c"}}}}`, Want: []string{"spec.selector.matchLabels: Invalid value"}},
		{Name: "unknown policy", Diff: `{spec: {unhealthyPodEvictionPolicy: Never}}`, Want: []string{"spec.unhealthyPodEvictionPolicy: Unsupported value"}},
	})
	kindtest.Update(t, PodDisruptionBudgets, budget, []kindtest.Case{
		{Name: "another number", Diff: `{spec: {minAvailable: 2}}`},
		{Name: "a bad number", Diff: `{spec: {minAvailable: -2}}`, Want: []string{"spec.minAvailable: Invalid value"}},
	})
	kindtest.Status(t, PodDisruptionBudgets, budget, []kindtest.Case{
		{Name: "good", Diff: `{status: {disruptionsAllowed: 1, conditions: [{type: DisruptionAllowed, status: "True", reason: SufficientPods, lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`},
		{Name: "negative", Diff: `{status: {disruptionsAllowed: -1, currentHealthy: -1, desiredHealthy: -1, expectedPods: -1}}`,
			Want: []string{"status.currentHealthy: Invalid value", "status.desiredHealthy: Invalid value", "status.disruptionsAllowed: Invalid value", "status.expectedPods: Invalid value"}},
		{Name: "bad condition", Diff: `{status: {conditions: [{type: A, status: Perhaps, reason: R, lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`,
			Want: []string{"status.conditions[0].status: Unsupported value"}},
	})
	shows := func(diff string, want map[string]string) {
		kindtest.Shows(t, PodDisruptionBudgets, kindtest.New(t, PodDisruptionBudgets, budget, diff), want)
	}
	shows("", map[string]string{"Min Available": "1", "Max Unavailable": "N/A", "Allowed Disruptions": "0"})
	shows(`{spec: {minAvailable: null, maxUnavailable: 25%}}`, map[string]string{"Min Available": "N/A", "Max Unavailable": "25%"})
}
