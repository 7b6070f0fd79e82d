package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	var s samples
	for i := 100; i >= 1; i-- {
		s = append(s, time.Duration(i)*time.Millisecond)
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 51, 99: 100, 100: 100} {
		if got := s.at(p); got != want*time.Millisecond {
			t.Errorf("p%v of 1…100 ms is %v, want %v ms", p, got, int(want))
		}
	}
	if got := (samples{}).at(50); got != 0 {
		t.Errorf("p50 of nothing is %v", got)
	}
}

func TestReport(t *testing.T) {
	var r report
	r.add("One", row{"a", "1", "2", "0.5"})
	r.add("Two", row{"b", "3", "4", "0.75"})
	r.add("One", row{"c", "5", "6", "0.8"})
	path := filepath.Join(t.TempDir(), "deep", "R.md")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "## One\n\n| what | Pilothouse | limit | ratio |\n|---|---|---|---|\n| a | 1 | 2 | 0.5 |\n| c | 5 | 6 | 0.8 |\n\n## Two\n"
	if !strings.Contains(string(data), want) || !strings.Contains(string(data), "Linux ") {
		t.Errorf("the report is\n%s\nwithout\n%s", data, want)
	}
}
