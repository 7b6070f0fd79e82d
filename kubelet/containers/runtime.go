package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/pkg/cap"
	"github.com/moby/locker"
	"go.uber.org/zap"

	"pilothouse.dev/kubelet/cgroups"
)

const (
	defaultNamespace   = "k8s.io"
	defaultSnapshotter = "overlayfs"
	runtimeName        = "io.containerd.runc.v2"
	dialTimeout        = 10 * time.Second
	undoTimeout        = 30 * time.Second
)

// Runtime is the connection to containerd. All methods may be called at the same time; work on one container is done one after another.
type Runtime struct {
	cfg     Config
	openLog OpenLog
	log     *zap.Logger
	starts  chan struct{} // one token a start in flight
	queue   *queue
	groups  *cgroups.Tree // only to read containers' numbers and change their limits

	// locks by container and sandbox. A container's lock is taken before its sandbox's.
	locks *locker.Locker

	// set by Open
	client   *containerd.Client
	may      allowance
	kernel   kernel
	features map[string]Features // by OCI runtime

	mu    sync.Mutex
	live  map[string]*stdio     // by container: the streams of those that run
	ids   map[uint32]bool       // ranges of users that sandboxes have, by their first
	facts map[string]imageFacts // by image target digest; images never change, so never stale
}

// allowance is what this process may give to others; without CAP_SYS_RESOURCE less than everything.
type allowance struct {
	caps     map[string]bool
	oomFloor int // the lowest OOM score that can be set
}

// New stores what it is given. openLog may be nil: output is thrown away.
func New(cfg Config, openLog OpenLog, log *zap.Logger) *Runtime {
	cfg.Address = strings.TrimPrefix(cfg.Address, "unix://")
	cfg.Namespace = or(cfg.Namespace, defaultNamespace)
	cfg.Snapshotter = or(cfg.Snapshotter, defaultSnapshotter)
	cfg.MountPoint = or(cfg.MountPoint, "/sys/fs/cgroup")
	if cfg.StartsInFlight <= 0 {
		cfg.StartsInFlight = 4
	}
	return &Runtime{
		cfg:     cfg,
		openLog: openLog,
		log:     log.Named("containers"),
		starts:  make(chan struct{}, cfg.StartsInFlight),
		queue:   newQueue(),
		groups:  cgroups.New(cgroups.Config{MountPoint: cfg.MountPoint}, log),
		locks:   locker.New(),
		live:    make(map[string]*stdio),
		ids:     make(map[uint32]bool),
		facts:   make(map[string]imageFacts),
	}
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// Open dials containerd, finds what runs, joins its output again and removes pins without a record. It fails if containerd does not
// answer within ten seconds.
func (r *Runtime) Open(ctx context.Context) (err error) {
	for _, dir := range []string{r.sandboxesDir(), r.ioDir(), r.runcDir(), r.mapDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("making state folder: %w", err)
		}
	}
	if r.may, err = ownAllowance(); err != nil {
		return fmt.Errorf("reading own capabilities: %w", err)
	}
	if !r.may.caps["CAP_SYS_RESOURCE"] {
		r.log.Warn("no CAP_SYS_RESOURCE: OOM scores cannot be lowered", zap.Int("lowest", r.may.oomFloor))
	}
	r.kernel = learnKernel()
	r.kernel.idmap = r.mapsOwners(r.mapDir())
	r.features = r.learnFeatures(ctx)
	r.client, err = containerd.New(r.cfg.Address, containerd.WithDefaultNamespace(r.cfg.Namespace), containerd.WithTimeout(dialTimeout))
	if err != nil {
		return fmt.Errorf("dialing containerd: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	ctx = r.scope(ctx)
	if err := r.rejoin(ctx); err != nil {
		return fmt.Errorf("joining running containers: %w", err)
	}
	if err := r.rememberIDs(ctx); err != nil {
		return err
	}
	if err := r.sweep(ctx); err != nil {
		return fmt.Errorf("removing leftovers: %w", err)
	}
	return nil
}

// Close lets go of containerd and of the output of containers, which go on running; harmless if Open failed. Nothing already read from a container
// is lost. What it prints while nobody reads waits in its FIFOs (64 KiB each, then it waits itself); but what is still in them when it ends meanwhile goes
// with it, and so does the standard input of a container that has one.
func (r *Runtime) Close() error {
	r.mu.Lock()
	live := r.live
	r.live = make(map[string]*stdio)
	r.mu.Unlock()
	var failed []error
	for _, s := range live {
		failed = append(failed, s.release())
	}
	if r.client != nil {
		if err := r.client.Close(); err != nil {
			failed = append(failed, fmt.Errorf("closing containerd client: %w", err))
		}
	}
	return errors.Join(failed...)
}

// Client is the containerd client, for images. Valid between Open and Close.
func (r *Runtime) Client() *containerd.Client { return r.client }

// Version of containerd as the node status shows it: containerd://1.6.20.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	v, err := r.client.Version(r.scope(ctx))
	if err != nil {
		return "", fmt.Errorf("asking containerd's version: %w", err)
	}
	return "containerd://" + strings.TrimPrefix(v.Version, "v"), nil
}

// scope puts containerd's namespace into a context.
func (r *Runtime) scope(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.cfg.Namespace)
}

// undo is a fresh context for taking back what was done, when the caller's may be dead.
func (r *Runtime) undo(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.scope(context.WithoutCancel(ctx)), undoTimeout)
}

func (r *Runtime) sandboxesDir() string { return filepath.Join(r.cfg.StateDir, "sandboxes") }
func (r *Runtime) ioDir() string        { return filepath.Join(r.cfg.StateDir, "io") }
func (r *Runtime) runcDir() string      { return filepath.Join(r.cfg.StateDir, "runc") }

// lock takes the lock of a container ("container", id) or a sandbox and returns what gives it back.
func (r *Runtime) lock(kind, id string) (unlock func()) {
	key := kind + "/" + id
	r.locks.Lock(key)
	return func() {
		// Unlock only fails for a name that is not locked, which this function rules out.
		_ = r.locks.Unlock(key)
	}
}

func ownAllowance() (allowance, error) {
	caps, err := cap.Current()
	if err != nil {
		return allowance{}, err
	}
	a := allowance{caps: make(map[string]bool), oomFloor: -1000}
	for _, c := range caps {
		a.caps[c] = true
	}
	if !a.caps["CAP_SYS_RESOURCE"] {
		raw, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil {
			return allowance{}, err
		}
		a.oomFloor = number(strings.TrimSpace(string(raw)))
	}
	return a, nil
}
