package csi

import (
	"context"
	"fmt"
	"strings"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// capabilities are what a driver's node part can do.
type capabilities map[spec.NodeServiceCapability_RPC_Type]bool

// call speaks with a driver, for a bounded time. Each call has a connection of its own: a driver may have been replaced since the last, and
// calls are rare.
func (d driver) call(ctx context.Context, f func(context.Context, spec.NodeClient) error) error {
	conn, err := grpc.NewClient("unix:"+strings.TrimPrefix(d.endpoint, "unix://"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("dialling the driver: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f(ctx, spec.NewNodeClient(conn))
}

// can asks a driver what it can do.
func can(ctx context.Context, c spec.NodeClient) (capabilities, error) {
	said, err := c.NodeGetCapabilities(ctx, &spec.NodeGetCapabilitiesRequest{})
	if err != nil {
		return nil, err
	}
	out := capabilities{}
	for _, one := range said.Capabilities {
		if rpc := one.GetRpc(); rpc != nil {
			out[rpc.Type] = true
		}
	}
	return out, nil
}
