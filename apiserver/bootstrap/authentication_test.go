package bootstrap

import (
	"maps"
	"testing"
	"time"

	"pilothouse.dev/pkg/pki"
)

func TestMergeAuthentication(t *testing.T) {
	authority := func(name string) string {
		a, err := pki.NewAuthority(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(a.PEM().Cert)
	}
	one, two := authority("one"), authority("two")
	const ca, names = "client-ca-file", "requestheader-allowed-names"
	now := time.Now()
	for _, c := range []struct {
		name             string
		have, want, next map[string]string // next nil: nothing changes
		at               time.Time
	}{
		{"nothing yet", nil, map[string]string{ca: one}, map[string]string{ca: one}, now},
		{"the same", map[string]string{ca: one, names: "[]"}, map[string]string{ca: one, names: "[]"}, nil, now},
		{"what another server said", map[string]string{"requestheader-client-ca-file": two}, map[string]string{ca: one},
			map[string]string{"requestheader-client-ca-file": two, ca: one}, now},
		{"another server's authority", map[string]string{ca: two}, map[string]string{ca: one}, map[string]string{ca: one + two}, now},
		{"both, in another order", map[string]string{ca: two + one}, map[string]string{ca: one}, nil, now},
		{"another that has expired", map[string]string{ca: two}, map[string]string{ca: one}, map[string]string{ca: one}, now.Add(20 * 365 * 24 * time.Hour)},
		{"nonsense", map[string]string{ca: "x"}, map[string]string{ca: one}, map[string]string{ca: one}, now},
		{"other names", map[string]string{names: `["a"]`}, map[string]string{names: `["b"]`}, map[string]string{names: `["b"]`}, now},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := mergeAuthentication(c.have, c.want, c.at)
			if (next == nil) != (c.next == nil) || !maps.Equal(next, c.next) {
				t.Errorf("got %v", next)
			}
		})
	}
}
