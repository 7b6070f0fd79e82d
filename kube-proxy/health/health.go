// Package health answers those who ask whether this node's proxy works.
//
// /healthz and /livez tell whether the rules keep up with the API: sick is a
// proxy that has had a change in hand for too long without writing it. /healthz
// also turns away while the node is being deleted, so that load balancers leave
// it. For each service with a health check node port (external policy Local),
// that port tells how many of its endpoints run here.
//
// The syncer reports to State and offers tables to Ports; main runs both.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"
)

// taintToBeDeleted is put on a node by the cluster autoscaler before it goes.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// The metrics are named as users of kube-proxy know them.
var (
	healthzTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_proxy_healthz_total",
		Help: "Answers of /healthz.",
	}, []string{"code"})
	livezTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_proxy_livez_total",
		Help: "Answers of /livez.",
	}, []string{"code"})
)

// State is the proxy's own health: that of the rules of all address families.
type State struct {
	limit time.Duration

	mu       sync.Mutex
	families []*Family
	leaving  bool // the node is being deleted
}

// Family is how far the rules of one address family are.
type Family struct {
	state *State

	// Guarded by the State's mu.
	queued  time.Time // of the oldest change not yet written; zero: none
	updated time.Time // when the rules were last known to be right; zero: never yet
}

// NewState makes a State that is sick when a change waits longer than limit, and
// until each of its families was written once.
func NewState(limit time.Duration) *State { return &State{limit: limit} }

// Family adds an address family.
func (s *State) Family() *Family {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &Family{state: s}
	s.families = append(s.families, f)
	return f
}

// Queued notes that there is a change to write.
func (f *Family) Queued(now time.Time) {
	f.state.mu.Lock()
	defer f.state.mu.Unlock()
	if f.queued.IsZero() {
		f.queued = now
	}
}

// Synced notes that the rules are as they should be.
func (f *Family) Synced(now time.Time) {
	f.state.mu.Lock()
	defer f.state.mu.Unlock()
	f.queued, f.updated = time.Time{}, now
}

// SetNode tells whether the node is being deleted.
func (s *State) SetNode(n *corev1.Node) {
	leaving := n.DeletionTimestamp != nil
	for _, t := range n.Spec.Taints {
		leaving = leaving || t.Key == taintToBeDeleted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = leaving
}

// Check is nil if the rules keep up.
func (s *State) Check(context.Context) error {
	if r := s.report(time.Now()); !r.keepsUp {
		return fmt.Errorf("rules were last written at %s, and a change has been waiting for more than %s", r.LastUpdated.Format(time.RFC3339), s.limit)
	}
	return nil
}

// report is the body of an answer.
type report struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible *bool     `json:"nodeEligible,omitempty"`
	keepsUp      bool
	leaving      bool
}

// report looks at all families: the one that is furthest behind counts. Of rules
// that keep up it says that they were updated just now, as the documentation of
// kube-proxy's health check has it.
func (s *State) report(now time.Time) report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := report{CurrentTime: now, LastUpdated: now, keepsUp: true, leaving: s.leaving}
	for _, f := range s.families {
		if f.updated.IsZero() || !f.queued.IsZero() && now.Sub(f.queued) >= s.limit {
			r.keepsUp = false
			if f.updated.Before(r.LastUpdated) {
				r.LastUpdated = f.updated
			}
		}
	}
	return r
}

// handler answers /healthz and /livez.
func (s *State) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		r := s.report(time.Now())
		eligible := !r.leaving
		r.NodeEligible = &eligible
		healthzTotal.WithLabelValues(reply(w, r.keepsUp && eligible, r)).Inc()
	})
	m.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		r := s.report(time.Now())
		livezTotal.WithLabelValues(reply(w, r.keepsUp, r)).Inc()
	})
	return m
}

// Serve answers for the State at an address until ctx ends; without an address
// it only waits.
func (s *State) Serve(ctx context.Context, address string) error {
	if address == "" {
		<-ctx.Done()
		return nil
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for health checks: %w", err)
	}
	return serve(ctx, ln, s.handler())
}

// serve serves until ctx ends.
func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // nobody is left to tell
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving health checks on %s: %w", ln.Addr(), err)
	}
	return nil
}

// reply writes 200 or 503, which it returns, and a body in JSON.
func reply(w http.ResponseWriter, well bool, body any) string {
	code := http.StatusOK
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !well {
		code = http.StatusServiceUnavailable
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that left needs no answer
	return strconv.Itoa(code)
}
