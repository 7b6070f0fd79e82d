// Command testcsi is a small CSI driver that speaks the real protocol (https://github.com/container-storage-interface/spec/blob/master/spec.md):
// identity and node, and the registration with the kubelet that others leave to a sidecar. It is for tests; what it keeps is below --data:
//
//	volumes/HANDLE/       the content of a volume, which is made when it is staged (or published, without staging)
//	volumes/HANDLE.img    that of a block volume, published as a loop device
//	inline/HANDLE/        that of an inline volume, removed when it is unpublished
//	calls                 a line a call that changes something: its name, and its request as JSON
//	faults/CALL           what a call of that name does instead: «fail CODE text» (as INTERNAL), «hang», «after CODE text» (it works, and then fails)
//	size/HANDLE           the size that a volume has grown to
//
// A published volume holds testcsi.json, which says what NodePublishVolume was called with, without secrets' values.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/urfave/cli/v2"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	var c config
	err := app(&c, func(x *cli.Context) error {
		ctx, stop := signal.NotifyContext(x.Context, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return run(ctx, c)
	}).Run(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcsi:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, c config) error {
	d := &driver{config: c, ended: ctx.Done()}
	for _, dir := range []string{"volumes", "inline", "faults", "size"} {
		if err := os.MkdirAll(filepath.Join(c.data, dir), 0o755); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
	}
	srv := grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	spec.RegisterIdentityServer(srv, d)
	spec.RegisterNodeServer(srv, d)
	failed := make(chan error, 2)
	if err := serve(srv, c.endpoint, failed); err != nil {
		return err
	}
	defer srv.Stop()
	if c.registration != "" {
		present := grpc.NewServer()
		registration.RegisterRegistrationServer(present, &presence{config: c})
		if err := serve(present, c.registration, failed); err != nil {
			return err
		}
		defer present.Stop()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// serve listens at a socket, in the place of one that a former life has left.
func serve(srv *grpc.Server, path string, failed chan<- error) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an old socket: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the folder of a socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	go func() {
		if err := srv.Serve(l); err != nil {
			failed <- fmt.Errorf("serving at %s: %w", path, err)
		}
	}()
	return nil
}

// presence is how the driver presents itself to a kubelet.
type presence struct {
	registration.UnimplementedRegistrationServer
	config
}

func (p *presence) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: p.name, Endpoint: p.endpoint, SupportedVersions: p.versions.Value()}, nil
}

func (p *presence) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if s.PluginRegistered {
		fmt.Println("registered")
	} else {
		fmt.Println("refused:", s.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}
