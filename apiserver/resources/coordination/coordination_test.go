package coordination

import (
	"testing"

	"pilothouse.dev/apiserver/registry/kindtest"
)

func TestLeases(t *testing.T) {
	const lease = `{spec: {holderIdentity: me, leaseDurationSeconds: 15}}`
	kindtest.Create(t, Leases, lease, []kindtest.Case{
		{Name: "good"},
		{Name: "nobody's", Diff: `{spec: null}`},
		{Name: "for no time", Diff: `{spec: {leaseDurationSeconds: 0}}`, Want: []string{"spec.leaseDurationSeconds: Invalid value"}},
		{Name: "handed on less than never", Diff: `{spec: {leaseTransitions: -1}}`, Want: []string{"spec.leaseTransitions: Invalid value"}},
		{Name: "by the oldest", Diff: `{spec: {strategy: OldestEmulationVersion, preferredHolder: you}}`},
		{Name: "by a way of one's own", Diff: `{spec: {strategy: example.com/mine}}`},
		{Name: "by lot", Diff: `{spec: {strategy: ByLot}}`, Want: []string{"spec.strategy: Unsupported value"}},
		{Name: "by a bad name", Diff: `{spec: {strategy: a/b/c}}`, Want: []string{"spec.strategy: Invalid value"}},
		{Name: "for somebody, anyhow", Diff: `{spec: {preferredHolder: you}}`, Want: []string{"spec.preferredHolder: Forbidden"}},
	})
	kindtest.Shows(t, Leases, kindtest.New(t, Leases, lease, ""), map[string]string{"Holder": "me"})
	kindtest.Shows(t, Leases, kindtest.New(t, Leases, "", ""), map[string]string{"Holder": ""})
}
