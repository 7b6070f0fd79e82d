package containers

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/containerd"
	"go.uber.org/zap"

	"pilothouse.dev/kubelet/cgroups"
)

var errNotBuilt = errors.New("not built yet")

// Runtime is the connection to containerd. All methods may be called at the same time; work on one container is done one after another.
type Runtime struct {
	cfg     Config
	openLog OpenLog
	log     *zap.Logger
}

// New stores what it is given. openLog may be nil: output is thrown away.
func New(cfg Config, openLog OpenLog, log *zap.Logger) *Runtime {
	return &Runtime{cfg: cfg, openLog: openLog, log: log.Named("containers")}
}

// Open dials containerd, finds what runs, joins its output again and removes pins without a record. It fails if containerd does not
// answer within ctx.
func (r *Runtime) Open(ctx context.Context) error { return errNotBuilt }

// Close lets go of containerd and of the output of containers, which go on running. Nothing already read from a container is lost.
func (r *Runtime) Close() error { return errNotBuilt }

// Run reads containerd's events until ctx ends, finishing containers that exited. It subscribes again after a broken stream and then
// sends a Relist event.
func (r *Runtime) Run(ctx context.Context) error { return errNotBuilt }

// Events is the one channel of events, for one reader. It is never closed. A reader that stays away gets one Relist for all it missed.
func (r *Runtime) Events() <-chan Event { return nil }

// Client is the containerd client, for images. Valid between Open and Close.
func (r *Runtime) Client() *containerd.Client { return nil }

// Version of containerd as the node status shows it: containerd://1.6.20.
func (r *Runtime) Version(ctx context.Context) (string, error) { return "", errNotBuilt }

// CreateSandbox makes a pod's namespaces and records them. On error nothing remains, except what Connect did outside of the network namespace.
func (r *Runtime) CreateSandbox(ctx context.Context, spec SandboxSpec) (Sandbox, error) {
	return Sandbox{}, errNotBuilt
}

// RemoveSandbox stops and removes the sandbox's containers, takes its namespaces down and forgets it. Removing what is gone is no error. The
// caller has torn the network down before.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error { return errNotBuilt }

// CreateContainer prepares a container's file system and spec; nothing runs yet.
func (r *Runtime) CreateContainer(ctx context.Context, spec ContainerSpec) (string, error) {
	return "", errNotBuilt
}

// StartContainer runs a created container. It waits for its turn (Config.StartsInFlight). If the process cannot be started the container
// becomes Exited with reason StartError, code 128, and the error is returned.
func (r *Runtime) StartContainer(ctx context.Context, id string) error { return errNotBuilt }

// StopContainer sends the stop signal, waits grace, then kills; it returns when the container is Exited. Grace 0 kills at once. Stopping what
// doesn't run is no error.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	return errNotBuilt
}

// RemoveContainer kills the container if need be, and removes its file system and record. Its log stays. Removing what is gone is no error.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error { return errNotBuilt }

// Exec runs a command in a running container and returns its exit code once it ended and its output was delivered. A command that cannot
// be started is an error (wrapping what the OCI runtime says); a code other than 0 is not.
func (r *Runtime) Exec(ctx context.Context, id string, spec ExecSpec) (int, error) {
	return 0, errNotBuilt
}

// Attach joins the streams of a running container until it ends, ctx ends, or stdin ended where there is no output to wait for.
func (r *Runtime) Attach(ctx context.Context, id string, spec AttachSpec) error { return errNotBuilt }

// List is everything of ours. It costs a round trip to containerd and one to each shim of a running container.
func (r *Runtime) List(ctx context.Context) (Listing, error) { return Listing{}, errNotBuilt }

// ListPod is List for one pod.
func (r *Runtime) ListPod(ctx context.Context, podUID string) (Listing, error) {
	return Listing{}, errNotBuilt
}

// Inspect is one container, or ErrNotFound.
func (r *Runtime) Inspect(ctx context.Context, id string) (Container, error) {
	return Container{}, errNotBuilt
}

// Finished is closed once the container has exited and its log is complete; at once if it does not run. For those who follow a log.
func (r *Runtime) Finished(ctx context.Context, id string) (<-chan struct{}, error) {
	return nil, errNotBuilt
}

// Usage reads a running container's numbers.
func (r *Runtime) Usage(ctx context.Context, id string) (Usage, error) { return Usage{}, errNotBuilt }

// UpdateResources changes the limits of a running container.
func (r *Runtime) UpdateResources(ctx context.Context, id string, res cgroups.Resources) error {
	return errNotBuilt
}
