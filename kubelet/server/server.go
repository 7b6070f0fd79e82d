// Package server is the kubelet's HTTPS door: logs, exec, attach, port-forward, numbers and health of this node, for the API server and for whom it allows.
//
// What always holds: before anything is done, it is known who calls (else 401), and the API server has said that he may (else 403): see the room access.
// Handlers return errors; one place writes them. All routes stand in routes.go.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/streaming"
	"pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/pkg/pod"
)

// Config of the server.
type Config struct {
	Address string // host
	Port    int
	// CertFile and KeyFile serve; ClientCAFile signs clients.
	CertFile, KeyFile, ClientCAFile string
	// Await says that the certificate may come later: handshakes fail until then.
	Await bool
	// Logs is the folder of container logs.
	Logs string
	TLS  TLS
	// HealthzAddress and HealthzPort are where /healthz alone is served without TLS; port 0: nowhere.
	HealthzAddress string
	HealthzPort    int
	// Debugging serves logs, exec, attach and portForward; Profiling /debug/pprof; NodeLogs the files of /var/log.
	Debugging, Profiling, NodeLogs bool
	// Contention has waiting for locks profiled.
	Contention bool
}

// Pods are those of this node.
type Pods interface {
	Pods() []*corev1.Pod
}

// Runtime tells of containers.
type Runtime interface {
	List(ctx context.Context) (containers.Listing, error)
	ListPod(ctx context.Context, podUID string) (containers.Listing, error)
	Finished(ctx context.Context, id string) (<-chan struct{}, error)
}

// Stats are the node's numbers.
type Stats interface {
	Summary(ctx context.Context) (*statsv1.Summary, error)
	// WriteContainers writes what /metrics/cadvisor shows.
	WriteContainers(ctx context.Context, w io.Writer) error
}

// Parts are what the server shows.
type Parts struct {
	Access  Access
	Pods    Pods
	Runtime Runtime
	Streams *streaming.Streams
	Stats   Stats
	Checks  *health.Checks
	// Metrics of the process, Resources of pods and node (/metrics/resource), and results of Probes (/metrics/probes; nil: none).
	Metrics, Resources, Probes prometheus.Gatherer
	// Configz is what /configz shows.
	Configz func() map[string]any
	// NodeIPs are where pods on the node's network are found.
	NodeIPs []netip.Addr
}

// idle is how long a connection is kept on which nothing is asked.
const idle = 90 * time.Second

// Server is the door.
type Server struct {
	cfg      Config
	parts    Parts
	log      *zap.Logger
	requests *requests
}

// New stores what it is given.
func New(cfg Config, parts Parts, log *zap.Logger) *Server {
	return &Server{cfg: cfg, parts: parts, log: log.Named("server"), requests: newRequests()}
}

// Run listens and serves until ctx ends. Streams under way are cut then: their containers go on.
func (s *Server) Run(ctx context.Context) error {
	open := pki.NewFiles
	if s.cfg.Await {
		open = pki.AwaitFiles
	}
	files, err := open(s.cfg.CertFile, s.cfg.KeyFile, s.cfg.ClientCAFile)
	if err != nil {
		return err
	}
	files.OnReload(func(err error) {
		if err != nil {
			s.log.Error("reading renewed certificates, serving with the former ones", zap.Error(err))
		}
	})
	if s.cfg.Contention {
		runtime.SetBlockProfileRate(1)
		runtime.SetMutexProfileFraction(1)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(s.cfg.Address, strconv.Itoa(s.cfg.Port)))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	srv := &http.Server{Handler: s.routes(), TLSConfig: s.cfg.TLS.over(files.ServerTLS()), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idle,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: zap.NewStdLog(s.log)}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	defer s.serveHealth()()
	if err := srv.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// failure is an error that knows its status code.
type failure struct {
	code int
	text string
}

func (f failure) Error() string { return f.text }

func fail(code int, format string, args ...any) error {
	return failure{code, fmt.Sprintf(format, args...)}
}

// handler is a route's work; an error is only returned if nothing was written.
type handler func(http.ResponseWriter, *http.Request) error

// ServeHTTP writes the error, as text, as the API server passes it on.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	if err == nil || r.Context().Err() != nil {
		return
	}
	code := http.StatusInternalServerError
	var f failure
	if errors.As(err, &f) {
		code = f.code
	}
	http.Error(w, err.Error(), code)
}

// pod finds a pod by the names in the path and, if the path has one, its UID. Of two with one name the newer is meant: the other was deleted by force, and
// still ends.
func (s *Server) pod(namespace, name string, uid types.UID) (*corev1.Pod, error) {
	var found *corev1.Pod
	for _, p := range s.parts.Pods.Pods() {
		if p.Namespace == namespace && p.Name == name && (uid == "" || p.UID == uid) && (found == nil || newer(p, found)) {
			found = p
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, fail(http.StatusNotFound, "pod %q does not exist", name)
}

func newer(a, b *corev1.Pod) bool {
	if x, y := pod.Terminating(a), pod.Terminating(b); x != y {
		return y
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}
