package main

import (
	"strings"
	"testing"

	"pilothouse.dev/controller-manager/loop"
)

// Every line of the table says what wakes it.
func TestGraph(t *testing.T) {
	table := controllers(Config{})
	var out strings.Builder
	if err := loop.Graph(&out, table); err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	name := ""
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, " ") {
			name, _, _ = strings.Cut(line, " ")
		}
		parts[name] += line
	}
	for _, line := range table {
		if p := parts[line.Name]; !strings.Contains(p, " wakes ") && !strings.Contains(p, "    fed by ") || strings.Contains(p, "fed by \n") {
			t.Errorf("%s does not say what wakes it: %q", line.Name, p)
		}
	}
	if !strings.Contains(parts["replicaset"], "pods") || !strings.Contains(parts["replicaset"], "wakes owner ReplicaSet") {
		t.Errorf("replicaset: %s", parts["replicaset"])
	}
}
