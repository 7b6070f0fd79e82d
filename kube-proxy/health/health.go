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
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// taintToBeDeleted is put on a node by the cluster autoscaler before it goes.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// State is the proxy's own health.
type State struct {
	limit time.Duration

	mu      sync.Mutex
	queued  time.Time // of the oldest change not yet written; zero: none
	updated time.Time // when the rules were last known to be right
	leaving bool      // the node is being deleted
}

// NewState makes a State that is sick when a change waits longer than limit.
func NewState(limit time.Duration) *State { return &State{limit: limit} }

// Queued notes that there is a change to write.
func (s *State) Queued(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queued.IsZero() {
		s.queued = now
	}
}

// Synced notes that the rules are as they should be.
func (s *State) Synced(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued, s.updated = time.Time{}, now
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

type report struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible bool      `json:"nodeEligible"`
	keepsUp      bool
}

func (s *State) report(now time.Time) report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := report{LastUpdated: s.updated, CurrentTime: now, NodeEligible: !s.leaving}
	r.keepsUp = !s.updated.IsZero() && (s.queued.IsZero() || now.Sub(s.queued) < s.limit)
	return r
}

// handler answers /healthz and /livez.
func (s *State) handler() http.Handler {
	answer := func(eligible bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			r := s.report(time.Now())
			reply(w, r.keepsUp && (r.NodeEligible || !eligible), r)
		}
	}
	m := http.NewServeMux()
	m.Handle("/healthz", answer(true))
	m.Handle("/livez", answer(false))
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

// reply writes 200 or 503 and a body in JSON.
func reply(w http.ResponseWriter, well bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !well {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // a client that left needs no answer
}
