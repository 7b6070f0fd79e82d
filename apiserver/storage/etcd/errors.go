package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pilothouse.dev/apiserver/storage"
)

// errFuture is etcd's word for a revision it has not reached; List and Get make a storage.TooNew of it.
var errFuture = errors.New("future revision")

// failed is the one place where etcd's errors become the contract's. what is gerund and object.
func failed(err error, what string, args ...any) error {
	if len(args) > 0 {
		what = fmt.Sprintf(what, args...)
	}
	return fmt.Errorf("%s: %w", what, translate(err))
}

func translate(err error) error {
	switch rpctypes.Error(err) {
	case rpctypes.ErrCompacted:
		return storage.ErrCompacted
	case rpctypes.ErrFutureRev:
		return errFuture
	case rpctypes.ErrRequestTooLarge:
		return storage.ErrTooLarge
	case rpctypes.ErrNoSpace:
		return storage.ErrFull
	}
	switch s, _ := status.FromError(err); s.Code() {
	case codes.Canceled:
		return fmt.Errorf("%w (etcd: %s)", context.Canceled, s.Message())
	case codes.ResourceExhausted:
		// gRPC refuses what is far over etcd's limit before etcd sees it, with the same code as a full database.
		if strings.Contains(s.Message(), "larger than max") {
			return storage.ErrTooLarge
		}
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w (etcd: %s)", context.DeadlineExceeded, s.Message())
	}
	return err
}

func leaseGone(err error) bool { return errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) }
