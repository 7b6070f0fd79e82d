package loop

import (
	"slices"
	"testing"
)

func TestTold(t *testing.T) {
	told := NewTold[string]()
	a, b := Key{Name: "a"}, Key{Name: "b"}
	for i, step := range []struct {
		key       Key
		now, news []string
	}{
		{a, []string{"x", "y"}, []string{"x", "y"}},
		{a, []string{"y", "x"}, nil},
		{b, []string{"x"}, []string{"x"}},
		{a, []string{"y", "z"}, []string{"z"}},
		{a, nil, nil},
		{a, []string{"y"}, []string{"y"}},
	} {
		if got := told.News(step.key, step.now); !slices.Equal(got, step.news) {
			t.Errorf("step %d: %q is new, want %q", i, got, step.news)
		}
	}
	if told.News(a, nil); len(told.last) != 1 {
		t.Errorf("left: %v", told.last)
	}
}
