// Package probes asks containers how they are: startup, readiness and liveness, a goroutine a probe, all results on one channel.
//
// The pod workers say with Set which containers of a pod are to be probed, as a whole wish, any number of times; they read Results. What always
// holds: readiness and liveness begin when startup has passed; a container is probed as long as it is wished for, and no result of it is sent
// after Set returned without it (but one may still lie in the channel); after startup or liveness has failed, that container is left in peace, since
// it is about to be ended.
//
// A try that cannot be made at all (no such port, no such program) is told and changes nothing, as with Kubernetes. Containers that were running
// when this kubelet began are first probed at a random moment within a period, so that not all are probed at once; any other one is probed as soon as
// its initial delay is over.
//
// It leaves to others: what a result means for the pod, and events.
package probes

import (
	"context"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
)

// Kind of a probe.
type Kind string

// The kinds, as events name them.
const (
	Startup   Kind = "Startup"
	Readiness Kind = "Readiness"
	Liveness  Kind = "Liveness"
)

// Target is a running container that wants to be probed.
type Target struct {
	// Namespace and Pod are for the metrics.
	Namespace, Pod string
	Container      *corev1.Container
	ContainerID    string
	// IP of the pod; the node's own for a pod on the node's network.
	IP netip.Addr
	// Since is when the container was started.
	Since time.Time
	// Started: startup has passed already, in a former life of the kubelet. Ready: readiness held then.
	Started, Ready bool
	// Ending: only readiness is of interest still.
	Ending bool
}

// Result is what a try brought.
type Result struct {
	PodUID      types.UID
	Container   string
	ContainerID string
	Kind        Kind
	// Healthy is the verdict after the thresholds; Changed says that this try changed it (the first verdict counts as a change).
	Healthy, Changed bool
	// Complaint is what a failed try said; empty after a success.
	Complaint string
	// Outcome says what the Complaint is.
	Outcome Outcome
}

// Outcome of a try that has something to say.
type Outcome string

// The outcomes.
const (
	Failed  Outcome = "failed"  // it counts against the container
	Errored Outcome = "errored" // it could not be made, and counts as nothing
	Warned  Outcome = "warned"  // it counts as well
)

// Runner runs a command in a container.
type Runner interface {
	Exec(ctx context.Context, id string, spec containers.ExecSpec) (int, error)
}

// Prober keeps the probes of this node.
type Prober struct {
	try     func(context.Context, *corev1.Probe, Target) error // set once, as all in this group
	results chan Result
	wake    chan struct{}
	metrics metrics
	born    time.Time

	mu     sync.Mutex
	wished map[types.UID]map[string]Target // by pod, then container; guarded by mu
	ended  map[string]context.CancelFunc   // running ones by container; guarded by mu
}

// New stores what it is given.
func New(run Runner) *Prober {
	return &Prober{
		try: trier{run}.try, results: make(chan Result, 64), wake: make(chan struct{}, 1), metrics: newMetrics(), born: time.Now(),
		wished: map[types.UID]map[string]Target{}, ended: map[string]context.CancelFunc{},
	}
}

// Results is for one reader, who must read.
func (p *Prober) Results() <-chan Result { return p.results }

// Set says which containers of the pod are to be probed; none: forget the pod. A container once begun is probed by what was said then, except for
// Ending.
func (p *Prober) Set(uid types.UID, targets []Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]Target{}
	for _, t := range targets {
		if t.Container.StartupProbe != nil || t.Container.ReadinessProbe != nil || t.Container.LivenessProbe != nil {
			want[t.ContainerID] = t
		}
	}
	changed := false
	for id, was := range p.wished[uid] {
		if t, still := want[id]; !still || t.Ending != was.Ending {
			if stop := p.ended[id]; stop != nil {
				stop()
				delete(p.ended, id)
			}
			changed = true
		}
	}
	changed = changed || len(want) != len(p.wished[uid])
	for id := range want {
		_, had := p.wished[uid][id]
		changed = changed || !had
	}
	if len(want) == 0 {
		delete(p.wished, uid)
	} else {
		p.wished[uid] = want
	}
	if changed {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// Run probes until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		p.mu.Lock()
		for uid, targets := range p.wished {
			for id, t := range targets {
				if p.ended[id] == nil {
					own, stop := context.WithCancel(ctx)
					p.ended[id] = stop
					all.Go(func() { p.container(own, uid, t) })
				}
			}
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			p.mu.Lock()
			for id, stop := range p.ended {
				stop()
				delete(p.ended, id)
			}
			p.mu.Unlock()
			return nil
		case <-p.wake:
		}
	}
}
