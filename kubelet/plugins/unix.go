package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// longest is how many bytes a socket's path may have (unix(7)).
const longest = 107

// reach calls f with a path to the socket that is short enough: its own, or one by way of a handle of its folder.
func reach(path string, f func(string) error) error {
	if len(path) <= longest {
		return f(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// Listen makes a socket for others to call, in place of one that is there; its Close removes it. The path may be of any length.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing an older socket: %w", err)
	}
	s := &socket{path: path}
	err := reach(path, func(short string) error {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		s.UnixListener = ln
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", path, err)
	}
	s.SetUnlinkOnClose(false) // by the path that it was made with, which is no more
	return s, nil
}

type socket struct {
	*net.UnixListener
	path string
}

func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if rerr := os.Remove(s.path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// Client is a connection, made when it is used, to the socket of a plugin. The path may be of any length.
func Client(path string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, path string) (conn net.Conn, err error) {
		err = reach(path, func(short string) error {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "unix", short)
			return err
		})
		return conn, err
	}
	options = append(options, grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithAuthority("localhost"))
	return grpc.NewClient("passthrough:///"+path, options...)
}
