package devices

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/util/validation"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"pilothouse.dev/kubelet/plugins"
)

// socketName is where plugins register; that it is made anew tells them that the kubelet was started again.
const socketName = "kubelet.sock"

// registrar is the service at kubelet.sock.
type registrar struct {
	api.UnimplementedRegistrationServer
	m   *Manager
	ctx context.Context // of Run: streams live as long
}

// Register is a plugin's own call.
func (r registrar) Register(_ context.Context, req *api.RegisterRequest) (*api.Empty, error) {
	if req.Version != api.Version {
		return nil, fmt.Errorf("device plugin API version %q is not supported, %q is", req.Version, api.Version)
	}
	if req.Endpoint == "" || filepath.Base(req.Endpoint) != req.Endpoint || req.Endpoint == socketName {
		return nil, fmt.Errorf("endpoint %q: want the name of a socket beside %s", req.Endpoint, socketName)
	}
	options := req.Options
	if options == nil {
		options = &api.DevicePluginOptions{}
	}
	if err := r.m.connect(r.ctx, req.ResourceName, filepath.Join(r.m.dir, req.Endpoint), options); err != nil {
		return nil, err
	}
	return &api.Empty{}, nil
}

// Run serves registrations until ctx ends; then the plugins' streams end, too. nudge has the node's status told soon.
func (m *Manager) Run(ctx context.Context, nudge func()) error {
	m.mu.Lock()
	m.nudge = nudge
	m.mu.Unlock()
	if err := os.MkdirAll(m.dir, 0o750); err != nil {
		return fmt.Errorf("making the folder of device plugins: %w", err)
	}
	ln, err := plugins.Listen(filepath.Join(m.dir, socketName))
	if err != nil {
		return fmt.Errorf("listening for device plugins: %w", err)
	}
	srv := grpc.NewServer()
	api.RegisterRegistrationServer(srv, registrar{m: m, ctx: ctx})
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	if err := srv.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving device plugins: %w", err)
	}
	return nil
}

// connect calls a plugin and follows its devices; one of the same resource that was there before is left.
func (m *Manager) connect(ctx context.Context, resource, socket string, options *api.DevicePluginOptions) error {
	if !extended(resource) {
		return fmt.Errorf("the ResourceName %q is invalid: want a qualified name as vendor.example/device, not of kubernetes.io", resource)
	}
	own, cancel := context.WithCancel(ctx)
	p, stream, err := open(own, resource, socket, options)
	if err != nil {
		cancel()
		return err
	}
	go func() {
		defer cancel()
		m.follow(own, p, stream)
	}()
	return nil
}

// extended: the name may be that of an extended resource
// (https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#extended-resources).
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && !strings.HasSuffix(domain, "kubernetes.io") && !strings.HasPrefix(name, "requests.") && len(validation.IsQualifiedName(name)) == 0
}

// follow takes in a plugin's lists until its stream ends.
func (m *Manager) follow(ctx context.Context, p *plugin, stream grpc.ServerStreamingClient[api.ListAndWatchResponse]) {
	known := false
	var err error
	for {
		var list *api.ListAndWatchResponse
		if list, err = stream.Recv(); err != nil {
			break
		}
		p.set(list.Devices)
		if !known {
			known = true
			m.mu.Lock()
			fresh := m.plugins[p.resource] == nil
			m.plugins[p.resource] = p // the newest life of it
			if fresh {
				m.remember()
			}
			m.mu.Unlock()
			m.log.Info("a device plugin registered", zap.String("resource", p.resource), zap.Int("devices", len(list.Devices)))
		}
		m.tell()
	}
	p.end()
	if cerr := p.conn.Close(); cerr != nil {
		m.log.Warn("closing the connection to a device plugin", zap.String("resource", p.resource), zap.Error(cerr))
	}
	if ctx.Err() == nil {
		m.log.Warn("a device plugin went", zap.String("resource", p.resource), zap.Error(err))
		m.tell()
	}
}

func (m *Manager) tell() {
	m.mu.Lock()
	nudge := m.nudge
	m.mu.Unlock()
	nudge()
}

// Register takes in a plugin that the room plugins found: see plugins.Handler.
func (m *Manager) Register(ctx context.Context, p plugins.Plugin) error {
	return m.connect(context.WithoutCancel(ctx), p.Name, p.Endpoint, nil)
}

// Deregister is told when its registration socket goes; what counts here is the end of its stream.
func (m *Manager) Deregister(context.Context, string) {}
