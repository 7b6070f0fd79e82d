package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// driver is the whole of it.
type driver struct {
	config
	unimplemented
	ended <-chan struct{}

	work sync.Mutex // one call changes something at a time
}

// intercept writes calls down and has them fail as the faults say.
func (d *driver) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	call := path.Base(info.FullMethod)
	how, what, err := d.fault(call)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if changes[call] {
		if err := d.write(call, req); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	switch how {
	case "hang":
		select {
		case <-ctx.Done():
		case <-d.ended:
		}
		return nil, status.Error(codes.Canceled, "it was given up")
	case "fail":
		return nil, what
	}
	said, err := handle(ctx, req)
	if how == "after" && err == nil {
		return nil, what
	}
	if err != nil && status.Code(err) == codes.Unknown {
		err = status.Error(codes.Internal, err.Error())
	}
	return said, err
}

// changes are the calls that are written down.
var changes = map[string]bool{"NodeStageVolume": true, "NodeUnstageVolume": true, "NodePublishVolume": true, "NodeUnpublishVolume": true, "NodeExpandVolume": true}

func (d *driver) fault(call string) (how string, what error, err error) {
	text, err := os.ReadFile(filepath.Join(d.data, "faults", call))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	how, rest, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	name, message, _ := strings.Cut(rest, " ")
	var code codes.Code
	if how != "hang" {
		if err := code.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil {
			return "", nil, fmt.Errorf("fault of %s: %w", call, err)
		}
	}
	return how, status.Error(code, message), nil
}

// write adds a line to the list of calls.
func (d *driver) write(call string, req any) error {
	text, err := json.Marshal(req)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.data, "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s\n", call, text)
	return errors.Join(err, f.Close())
}
