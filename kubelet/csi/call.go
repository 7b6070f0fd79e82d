package csi

import (
	"context"
	"fmt"
	"strings"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"pilothouse.dev/kubelet/plugins"
)

// capabilities are what a driver's node part can do.
type capabilities map[spec.NodeServiceCapability_RPC_Type]bool

// call speaks with a driver, for a bounded time. Each call has a connection of its own: a driver may have been replaced since the last, and
// calls are rare.
func (d driver) call(ctx context.Context, f func(context.Context, spec.NodeClient) error) error {
	conn, err := plugins.Client(strings.TrimPrefix(d.endpoint, "unix://"), grpc.WithUnaryInterceptor(d.timed))
	if err != nil {
		return fmt.Errorf("dialling the driver: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f(ctx, spec.NewNodeClient(conn))
}

// timed counts a call and its time.
func (d driver) timed(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	begin := time.Now()
	err := invoke(ctx, method, req, reply, conn, opts...)
	d.took.WithLabelValues(d.name, method, status.Code(err).String(), "false").Observe(time.Since(begin).Seconds())
	return err
}

// newTook is the metric of calls, by the name and labels of Kubernetes.
func newTook() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "csi_operations_seconds", Help: "Container Storage Interface operation duration with gRPC error code status total",
		Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600},
	}, []string{"driver_name", "method_name", "grpc_status_code", "migrated"})
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
