package main

import (
	"fmt"
	"slices"
	"strings"

	"pilothouse.dev/controller-manager/deployment"
	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/replicaset"
)

// controllers is the table: name, constructor, workers. Adding a controller is a package and a line here.
func controllers(cfg Config) []loop.Line {
	return []loop.Line{
		{Name: "deployment", New: deployment.New, Workers: cfg.DeploymentSyncs},
		{Name: "replicaset", New: replicaset.New, Workers: cfg.ReplicaSetSyncs},
	}
}

// enabled picks lines by the names of --controllers: NAME turns one on, -NAME off, * all that are not named.
func enabled(table []loop.Line, names []string) ([]loop.Line, error) {
	known := map[string]bool{}
	for _, l := range table {
		known[l.Name] = true
	}
	for _, n := range names {
		if n = strings.TrimPrefix(n, "-"); n != "*" && !known[n] {
			return nil, fmt.Errorf("--controllers: there is no controller %q", n)
		}
	}
	var on []loop.Line
	for _, l := range table {
		if slices.Contains(names, l.Name) || slices.Contains(names, "*") && !slices.Contains(names, "-"+l.Name) {
			on = append(on, l)
		}
	}
	return on, nil
}
