// Command images builds the container images that tests and demos use, without a registry and without a container tool: busybox
// from Debian's static package, and testapp, a Go program made for the purpose. Each is written as an OCI archive.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

func run(c *cli.Context) error {
	out := c.String(flagOut)
	tmp, err := os.MkdirTemp("", "images-")
	if err != nil {
		return fmt.Errorf("making a folder to build in: %w", err)
	}
	defer os.RemoveAll(tmp)

	bb, err := busybox(c.String(flagBusybox))
	if err != nil {
		return fmt.Errorf("making the busybox image: %w", err)
	}
	if err := archive.Write(filepath.Join(out, "busybox.tar"), named("busybox", "latest", bb)); err != nil {
		return err
	}

	program := filepath.Join(tmp, "testapp")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "pilothouse.dev/hack/images/testapp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building testapp: %w: %s", err, strings.TrimSpace(string(text)))
	}
	var apps []archive.Image
	for _, version := range []string{"1", "2", "3"} {
		img, err := testapp(program, version)
		if err != nil {
			return fmt.Errorf("making the testapp image: %w", err)
		}
		apps = append(apps, named("testapp", version, img)...)
		if version == "1" {
			apps = append(apps, named("testapp", "latest", img)...)
		}
	}
	return archive.Write(filepath.Join(out, "testapp.tar"), apps)
}
