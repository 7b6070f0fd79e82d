package main

import (
	"debug/buildinfo"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"pilothouse.dev/hack/archive"
)

// corednsModule is what hack/tools/coredns is built from: its version is the image's.
const corednsModule = "github.com/coredns/coredns"

// corednsUser is the number that the server runs as: the image's own, of nobody in particular.
const corednsUser = "65532:65532"

// coredns is the cluster's name server, built already from hack/tools/coredns. It finds its Corefile where every cluster's manifest puts it.
func coredns(program string) ([]archive.Image, error) {
	binary, err := static(program)
	if err != nil {
		return nil, err
	}
	version, err := moduleVersion(program, corednsModule)
	if err != nil {
		return nil, err
	}
	img, err := image(append(base(), file{name: "coredns", mode: 0o755, data: binary}), v1.Config{
		User:         corednsUser,
		Env:          []string{"PATH=/"},
		WorkingDir:   "/",
		Entrypoint:   []string{"/coredns"},
		ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}},
	})
	if err != nil {
		return nil, err
	}
	return named("coredns", strings.TrimPrefix(version, "v"), img), nil
}

// moduleVersion is the version of a module that a program was built with.
func moduleVersion(program, module string) (string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", fmt.Errorf("reading what %s was built from: %w", program, err)
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version, nil
		}
	}
	return "", fmt.Errorf("%s was not built from %s", program, module)
}
