// Command images builds the container images that tests and demos use, without a registry and without a container tool: busybox
// from Debian's static package, testapp, a Go program made for the purpose, and testcsi, a storage driver. Each is written as an OCI archive.
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

	driver, err := program(tmp, "pilothouse.dev/hack/testcsi")
	if err != nil {
		return err
	}
	img, err := single(driver)
	if err != nil {
		return fmt.Errorf("making the testcsi image: %w", err)
	}
	if err := archive.Write(filepath.Join(out, "testcsi.tar"), named("testcsi", "latest", img)); err != nil {
		return err
	}

	program, err := program(tmp, "pilothouse.dev/hack/images/testapp")
	if err != nil {
		return err
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
