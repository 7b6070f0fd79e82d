package devices

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/plugins"
)

// plugin is one registered plugin, until its stream ends; or one of a former life of the kubelet, gone until it registers again.
type plugin struct {
	resource string           // set once, as all in this group
	conn     *grpc.ClientConn // nil: of a former life
	client   api.DevicePluginClient
	options  *api.DevicePluginOptions

	mu   sync.Mutex
	all  []*api.Device // guarded by mu, as the next one
	went time.Time     // when its stream ended; zero: it is there
}

// open calls a plugin and asks for its devices.
func open(ctx context.Context, resource, socket string, options *api.DevicePluginOptions) (*plugin, grpc.ServerStreamingClient[api.ListAndWatchResponse], error) {
	conn, err := plugins.Client(socket)
	if err != nil {
		return nil, nil, fmt.Errorf("calling the device plugin: %w", err)
	}
	p := &plugin{resource: resource, conn: conn, client: api.NewDevicePluginClient(conn), options: options}
	stream, err := p.begin(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return p, stream, nil
}

func (p *plugin) begin(ctx context.Context) (grpc.ServerStreamingClient[api.ListAndWatchResponse], error) {
	asked, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	// The call proves that somebody listens; the stream below has no end of its own.
	options, err := p.client.GetDevicePluginOptions(asked, &api.Empty{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("asking the device plugin for its options: %w", err)
	}
	if p.options == nil {
		p.options = options
	}
	stream, err := p.client.ListAndWatch(ctx, &api.Empty{})
	if err != nil {
		return nil, fmt.Errorf("asking the device plugin for its devices: %w", err)
	}
	return stream, nil
}

// set takes in a list of devices.
func (p *plugin) set(devices []*api.Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = slices.Clone(devices)
	slices.SortFunc(p.all, func(a, b *api.Device) int { return compare(a.ID, b.ID) })
}

// compare puts gpu-2 before gpu-10.
func compare(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// end notes that the stream ended.
func (p *plugin) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.went = time.Now()
}

func (p *plugin) gone() bool { return p.goneFor(0) }

func (p *plugin) goneFor(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.went.IsZero() && time.Since(p.went) >= d
}

func (p *plugin) ids() []string { return p.list(func(*api.Device) bool { return true }) }

// healthy are the devices that can be given: none of a plugin that went.
func (p *plugin) healthy() []string {
	if p.gone() {
		return nil
	}
	return p.list(func(d *api.Device) bool { return d.Health == api.Healthy })
}

func (p *plugin) list(which func(*api.Device) bool) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, d := range p.all {
		if which(d) {
			out = append(out, d.ID)
		}
	}
	return out
}

func (p *plugin) preferred(ctx context.Context, available []string, n int) ([]string, error) {
	resp, err := p.client.GetPreferredAllocation(ctx, &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{
		{AvailableDeviceIDs: available, AllocationSize: int32(n)}}})
	if err != nil {
		return nil, err
	}
	if len(resp.ContainerResponses) != 1 {
		return nil, fmt.Errorf("the plugin answered for %d containers, was asked for one", len(resp.ContainerResponses))
	}
	return resp.ContainerResponses[0].DeviceIDs, nil
}

// allocate asks for devices and writes the answer into the container's spec.
func (p *plugin) allocate(ctx context.Context, ids []string, spec *containers.ContainerSpec) error {
	resp, err := p.client.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: ids}}})
	if err != nil {
		return err
	}
	if len(resp.ContainerResponses) != 1 {
		return fmt.Errorf("the plugin answered for %d containers, was asked for one", len(resp.ContainerResponses))
	}
	if err := put(resp.ContainerResponses[0], spec); err != nil {
		return err
	}
	if p.options.GetPreStartRequired() {
		if _, err := p.client.PreStartContainer(ctx, &api.PreStartContainerRequest{DevicesIds: ids}); err != nil {
			return fmt.Errorf("before the start: %w", err)
		}
	}
	return nil
}

// put writes a plugin's answer into a container's spec. What is there already under the same path stays.
func put(answer *api.ContainerAllocateResponse, spec *containers.ContainerSpec) error {
	if len(answer.CdiDevices) > 0 {
		return fmt.Errorf("the plugin names CDI devices (%s), which this kubelet does not know", answer.CdiDevices[0].Name)
	}
	for _, name := range slices.Sorted(maps.Keys(answer.Envs)) {
		if kv := name + "=" + answer.Envs[name]; !slices.Contains(spec.Env, kv) {
			spec.Env = append(spec.Env, kv)
		}
	}
	for _, m := range answer.Mounts {
		if !slices.ContainsFunc(spec.Mounts, func(o containers.Mount) bool { return o.Target == m.ContainerPath }) {
			spec.Mounts = append(spec.Mounts, containers.Mount{Source: m.HostPath, Target: m.ContainerPath, ReadOnly: m.ReadOnly})
		}
	}
	for _, d := range answer.Devices {
		if !slices.ContainsFunc(spec.Devices, func(o containers.Device) bool { return o.Target == d.ContainerPath }) {
			spec.Devices = append(spec.Devices, containers.Device{Source: d.HostPath, Target: d.ContainerPath, Permissions: d.Permissions})
		}
	}
	return nil
}
