package cpus

import (
	"slices"
	"testing"

	"pilothouse.dev/pkg/logging"
)

// What a container has alone is told until its pod is gone; what there is, without the reserved ones.
func TestOf(t *testing.T) {
	m := static(t, nil)
	if reason, message := m.Admit(guaranteed("p", "a=2", "b=1500m")); reason != "" {
		t.Fatal(reason, message)
	}
	if got := m.Of("p", "a"); !slices.Equal(got, []int{1, 5}) {
		t.Errorf("a has %v", got)
	}
	if got := slices.Concat(m.Of("p", "b"), m.Of("other", "a")); len(got) != 0 {
		t.Errorf("who shares processors has %v alone", got)
	}
	if got := m.All(); !slices.Equal(got, []int{1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("there are %v", got)
	}
	m.Release("p")
	if got := m.Of("p", "a"); len(got) != 0 {
		t.Errorf("a pod that is gone has %v", got)
	}
	if none, err := New(Config{}, nil, logging.ForTest(t)); err != nil || len(none.All()) != 0 || len(none.Of("p", "a")) != 0 {
		t.Errorf("without a policy there are processors for one alone: %v", err)
	}
}
