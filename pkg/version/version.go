// Package version says which build this is and which Kubernetes API it serves. Every daemon prints it and serves it.
package version

import (
	"fmt"
	"runtime"

	"k8s.io/apimachinery/pkg/version"
)

// Set by the linker (see the Makefile); the defaults serve plain `go build` and tests.
var (
	release = "0.1.0"
	commit  = "unknown"
	date    = "1970-01-01T00:00:00Z"
)

// The Kubernetes API that is served: the one of k8s.io/api v0.37.
const (
	Major      = "1"
	Minor      = "37"
	Kubernetes = "v1.37.2"
)

// Info is what /version answers, in the shape every Kubernetes client reads.
func Info() version.Info {
	return version.Info{
		Major: Major, Minor: Minor,
		GitVersion:   Kubernetes + "+pilothouse-" + release,
		GitCommit:    commit,
		GitTreeState: "clean",
		BuildDate:    date,
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// String is one line for --version.
func String() string {
	return fmt.Sprintf("pilothouse %s (commit %s, serves Kubernetes %s)", release, commit, Kubernetes)
}
