package images

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/credentials"
)

const (
	defaultSnapshotter = "overlayfs"
	defaultParallel    = 4
	defaultBackOff     = 10 * time.Second
	defaultMaxBackOff  = 5 * time.Minute
	defaultProgress    = time.Minute
	unpacksAtOnce      = 2 // beside those that are part of a pull
	blobsAtOnce        = 3 // of one pull
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
	// Progress is how long a pull may wait for bytes before it is given up; 0 means 1 min.
	Progress time.Duration
	// BackOff is the first wait after a failed pull, MaxBackOff the longest; 0 means 10 s and 5 min.
	BackOff, MaxBackOff time.Duration
	// Verify says which images that are here are given to a pod only if its credentials open them; empty: NeverVerifyPreloadedImages.
	Verify VerifyPolicy
	// Allowlist are the preloaded images that NeverVerifyAllowlistedImages gives to all: repositories, or all below one with «/*» at the end.
	Allowlist []string
	// Pinned are images that are never removed, beside those that have the label io.cri-containerd.pinned.
	Pinned []string
	// Keyring finds what opens registries; nil: a pod's pull secrets alone do.
	Keyring Keyring
}

// Check says what is wrong with the settings.
func (c Config) Check() error {
	if c.Verify != "" && !slices.Contains(VerifyPolicies(), c.Verify) {
		return fmt.Errorf("invalid imagePullCredentialsVerificationPolicy %q, must be one of %q", c.Verify, VerifyPolicies())
	}
	if c.Verify != NeverVerifyAllowlisted && len(c.Allowlist) > 0 {
		return fmt.Errorf("can't set preloadedImagesVerificationAllowlist if imagePullCredentialsVerificationPolicy is not %q", NeverVerifyAllowlisted)
	}
	if c.Progress < 0 || c.BackOff < 0 || c.MaxBackOff < c.BackOff {
		return fmt.Errorf("invalid times for pulls: progress deadline %s, back-off from %s to %s", c.Progress, c.BackOff, c.MaxBackOff)
	}
	return nil
}

// Keyring finds what opens registries; credentials.Keyring does.
type Keyring interface {
	Lookup(ctx context.Context, r credentials.Request) (found []credentials.Credential, problems []error)
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
	// Pod that wants it, for credential plugins; may be nil.
	Pod *corev1.Pod
	// PodUID keeps one pod's back-off apart from another's.
	PodUID string
	// OnPull is called just before this wish joins a pull or begins one (for the Pulling event); may be nil.
	OnPull func()
}

// Image is an image on the node.
type Image struct {
	// ID is the digest of the image's config, sha256:….
	ID string
	// Name is the normalised name it was asked by (docker.io/library/busybox:1.36); in List the first one.
	Name string
	// Ref is name@digest, of the manifest. List leaves it empty.
	Ref string
	// Names are all its tagged names, Digests its name@digest names. Ensure leaves them empty; List fills them.
	Names, Digests []string
	// Size in bytes of its content on the node, compressed.
	Size int64
	// From its config.
	Entrypoint, Cmd, Env []string
	User, WorkingDir     string
	StopSignal           string
	// Pulled says whether this Ensure pulled it (or waited for a pull), Took how long the pull took, Waited how long it was with the wait for its turn.
	Pulled       bool
	Took, Waited time.Duration
	// Pinned images are not removed; Here is since when it is on the node. Both are filled by List.
	Pinned bool
	Here   time.Time

	chain string // the snapshot of all its layers
}

// Store is the node's images. All methods may be called at the same time.
type Store struct {
	cfg     Config // set once, as all in this group
	daemon  Daemon
	log     *zap.Logger
	keys    Keyring
	pulls   chan struct{} // one token a pull
	unpacks chan struct{} // one token an unpacking outside a pull
	wait    *backOff
	numbers numbers
	now     func() time.Time

	mu       sync.Mutex
	flights  map[string]*flight   // pulls under way, by image and credentials; guarded by mu, as all below
	facts    map[string]Image     // by target digest: what never changes
	unpacked map[string]bool      // by target digest: containerd keeps an image's snapshots as long as the image
	asked    map[string]time.Time // by ID: when a pod was given the image last
}

// New stores what it is given.
func New(cfg Config, daemon Daemon, log *zap.Logger) *Store {
	if cfg.Snapshotter == "" {
		cfg.Snapshotter = defaultSnapshotter
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = defaultParallel
	}
	if cfg.Progress <= 0 {
		cfg.Progress = defaultProgress
	}
	if cfg.BackOff <= 0 {
		cfg.BackOff = defaultBackOff
	}
	if cfg.MaxBackOff <= 0 {
		cfg.MaxBackOff = defaultMaxBackOff
	}
	s := &Store{
		cfg: cfg, daemon: daemon, log: log.Named("images"), keys: cfg.Keyring,
		pulls: make(chan struct{}, cfg.Parallel), unpacks: make(chan struct{}, unpacksAtOnce),
		wait: newBackOff(cfg.BackOff, cfg.MaxBackOff), numbers: newNumbers(), now: time.Now,
		flights: map[string]*flight{}, facts: map[string]Image{}, unpacked: map[string]bool{}, asked: map[string]time.Time{},
	}
	if s.keys == nil {
		s.keys = credentials.New(credentials.Config{}, nil, nil, log)
	}
	return s
}
