// Command images builds the container images that tests and demos use, without a registry and without a container tool: busybox
// from Debian's static package, testapp, a Go program made for the purpose, and testcsi, a storage driver; and, when they are named, coredns, the cluster's
// name server, flannel, a pod network from elsewhere, and redis and nginx, programs that the world runs, from Debian packages that need not be installed. Each is written as an OCI archive.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pilothouse.dev/hack/archive"
)

func main() {
	if err := app(run).Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// recipe makes one archive's images.
type recipe struct {
	name string
	// others need a program built before, or the package archive, and are made only when they are named.
	other bool
	make  func() ([]archive.Image, error)
}

func run(c *cli.Context) error {
	tmp, err := os.MkdirTemp("", "images-")
	if err != nil {
		return fmt.Errorf("making a folder to build in: %w", err)
	}
	defer os.RemoveAll(tmp)

	debian := newPackages(filepath.Join(tmp, "packages"), download)
	recipes := []recipe{
		{"busybox", false, func() ([]archive.Image, error) { return latest("busybox")(busybox(c.String(flagBusybox))) }},
		{"testcsi", false, func() ([]archive.Image, error) { return latest("testcsi")(single(tmp, "pilothouse.dev/hack/testcsi")) }},
		{"testapp", false, func() ([]archive.Image, error) { return testapps(tmp) }},
		{"coredns", true, func() ([]archive.Image, error) { return coredns(c.String(flagCoreDNS)) }},
		{"flannel", true, func() ([]archive.Image, error) { return flannel(debian, c.String(flagFlannel)) }},
		{"redis", true, func() ([]archive.Image, error) { return latest("redis")(redis(debian)) }},
		{"nginx", true, func() ([]archive.Image, error) { return latest("nginx")(nginx(debian)) }},
	}
	names := c.Args().Slice()
	for _, name := range names {
		if !slices.ContainsFunc(recipes, func(r recipe) bool { return r.name == name }) {
			return fmt.Errorf("there is no image %q to make", name)
		}
	}
	for _, r := range recipes {
		if len(names) == 0 && r.other || len(names) > 0 && !slices.Contains(names, r.name) {
			continue
		}
		images, err := r.make()
		if err != nil {
			return fmt.Errorf("making the %s image: %w", r.name, err)
		}
		if err := archive.Write(filepath.Join(c.String(flagOut), r.name+".tar"), images); err != nil {
			return err
		}
	}
	return nil
}

// program builds a command of this module that needs no libraries, and returns the file.
func program(dir, pkg string) (string, error) {
	out := filepath.Join(dir, filepath.Base(pkg))
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", filepath.Base(pkg), err, strings.TrimSpace(string(text)))
	}
	return out, nil
}
