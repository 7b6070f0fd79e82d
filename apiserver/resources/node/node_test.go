package node

import (
	"testing"

	"pilothouse.dev/apiserver/registry/kindtest"
)

func TestRuntimeClasses(t *testing.T) {
	const class = `{handler: runsc}`
	kindtest.Create(t, RuntimeClasses, class, []kindtest.Case{
		{Name: "good", Diff: `{overhead: {podFixed: {cpu: 10m, memory: 1Mi}}, scheduling: {nodeSelector: {a: b}, tolerations: [{key: a, operator: Exists}]}}`},
		{Name: "no handler", Diff: `{handler: ""}`, Want: []string{"handler: Required value"}},
		{Name: "bad handler", Diff: `{handler: Run_C}`, Want: []string{"handler: Invalid value"}},
		{Name: "bad overhead", Diff: `{overhead: {podFixed: {cpu: "-1"}}}`,
			Want: []string{"overhead.podFixed[cpu]: Invalid value"}},
		{Name: "bad selector", Diff: `{scheduling: {nodeSelector: {a: "b c"}}}`, Want: []string{"scheduling.nodeSelector: Invalid value"}},
		{Name: "bad tolerations", Diff: `{scheduling: {tolerations: [{key: a, operator: Near}, {key: b, operator: Exists}, {key: b, operator: Exists}]}}`,
			Want: []string{"scheduling.tolerations[0].operator: Unsupported value", "scheduling.tolerations[2]: Duplicate value"}},
	})
	kindtest.Update(t, RuntimeClasses, class, []kindtest.Case{
		{Name: "costs", Diff: `{overhead: {podFixed: {cpu: 1}}}`},
		{Name: "another handler", Diff: `{handler: runc}`, Want: []string{"handler: Invalid value"}},
	})
	kindtest.Shows(t, RuntimeClasses, kindtest.New(t, RuntimeClasses, class, ""), map[string]string{"Handler": "runsc"})
}
