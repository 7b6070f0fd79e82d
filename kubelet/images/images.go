package images

import (
	"errors"
	"sync"
	"time"

	"github.com/containerd/containerd"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
)

// Errors of Ensure; the details are wrapped around them. Reason names them for a container's waiting state.
var (
	// ErrInvalidName: the image name cannot be read.
	ErrInvalidName = errors.New("invalid image name")
	// ErrNeverPull: the policy is Never and the image is not here.
	ErrNeverPull = errors.New("image is not present with pull policy of Never")
	// ErrPull: the pull was tried and did not succeed.
	ErrPull = errors.New("pulling image")
	// ErrBackOff: the last pull did not succeed and it is too early to try again.
	ErrBackOff = errors.New("back-off pulling image")
)

// Reason is what a container's waiting state says for an error of Ensure: InvalidImageName, ErrImageNeverPull, ErrImagePull or ImagePullBackOff.
func Reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrInvalidName):
		return "InvalidImageName"
	case errors.Is(err, ErrNeverPull):
		return "ErrImageNeverPull"
	case errors.Is(err, ErrBackOff):
		return "ImagePullBackOff"
	default:
		return "ErrImagePull"
	}
}

const (
	defaultSnapshotter = "overlayfs"
	defaultParallel    = 4
	defaultBackOff     = 10 * time.Second
	defaultMaxBackOff  = 5 * time.Minute
	pullTimeout        = 30 * time.Minute
)

// Config of the image store.
type Config struct {
	// Snapshotter; empty means overlayfs. The same as containers.Config's.
	Snapshotter string
	// PlainHTTP are registry hosts (host or host:port) spoken to without TLS.
	PlainHTTP []string
	// HostsDir is a folder of <host>/hosts.toml files as containerd reads them (mirrors, authorities); empty: none.
	HostsDir string
	// Parallel bounds pulls at the same time; 0 means 4.
	Parallel int
	// BackOff is the first wait after a failed pull, MaxBackOff the longest; 0 means 10 s and 5 min.
	BackOff, MaxBackOff time.Duration
}

// Daemon gives the containerd client once it is open; containers.Runtime does.
type Daemon interface {
	Client() *containerd.Client
}

// PullSpec is one container's wish for an image.
type PullSpec struct {
	// Image as the pod names it.
	Image string
	// Policy; empty means Always for the tag latest (or none), else IfNotPresent.
	Policy corev1.PullPolicy
	// Secrets are the pod's pull secrets, of the types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg; others are ignored.
	Secrets []corev1.Secret
	// PodUID keeps one pod's back-off apart from another's.
	PodUID string
	// OnPull is called just before a pull is really begun (for the Pulling event); may be nil. Where several wait for one pull, the first
	// one's is called.
	OnPull func()
}

// Image is an image on the node.
type Image struct {
	// ID is the digest of the image's config, sha256:….
	ID string
	// Name is the normalised name it was asked by (docker.io/library/busybox:1.36); in List the first one.
	Name string
	// Names are all its tagged names, Digests its name@digest names. Ensure leaves them empty; List fills them.
	Names, Digests []string
	// Size in bytes of its content on the node, compressed.
	Size int64
	// From its config.
	Entrypoint, Cmd, Env []string
	User, WorkingDir     string
	StopSignal           string
	// Pulled says whether this Ensure pulled it (or waited for a pull), Took how long that took.
	Pulled bool
	Took   time.Duration
}

// Store is the node's images. All methods may be called at the same time.
type Store struct {
	cfg    Config
	daemon Daemon
	log    *zap.Logger
	pulls  chan struct{} // one token a pull
	flight singleflight.Group
	wait   *backOff

	mu       sync.Mutex
	facts    map[string]Image // by target digest: what never changes
	unpacked map[string]bool  // by target digest: containerd keeps an image's snapshots as long as the image
}

// New stores what it is given.
func New(cfg Config, daemon Daemon, log *zap.Logger) *Store {
	if cfg.Snapshotter == "" {
		cfg.Snapshotter = defaultSnapshotter
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = defaultParallel
	}
	if cfg.BackOff <= 0 {
		cfg.BackOff = defaultBackOff
	}
	if cfg.MaxBackOff <= 0 {
		cfg.MaxBackOff = defaultMaxBackOff
	}
	return &Store{
		cfg:    cfg,
		daemon: daemon,
		log:    log.Named("images"),
		pulls:  make(chan struct{}, cfg.Parallel),
		wait:   newBackOff(cfg.BackOff, cfg.MaxBackOff),
		facts:  make(map[string]Image),

		unpacked: make(map[string]bool),
	}
}
