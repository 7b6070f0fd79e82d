package health

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"pilothouse.dev/kube-proxy/changes"
)

// retryListening is how long a taken port is left alone.
const retryListening = 10 * time.Second

// Ports answers on the health check node ports.
type Ports struct {
	log   *zap.Logger
	state *State
	wish  chan map[uint16]local // one slot: the newest wish wins

	mu     sync.Mutex
	tables [2]*changes.Table // of IPv4 and of IPv6, last offered
}

// local is what a health check node port tells.
type local struct {
	namespace, service string
	endpoints          int
}

// NewPorts makes Ports that listen on nothing yet.
func NewPorts(state *State, log *zap.Logger) *Ports {
	return &Ports{log: log, state: state, wish: make(chan map[uint16]local, 1), tables: [2]*changes.Table{{}, {}}}
}

// Offer tells which services of a family there are. It does not wait.
func (p *Ports) Offer(v6 bool, table *changes.Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := &p.tables[0]
	if v6 {
		was = &p.tables[1]
	}
	gone, came := changes.Compare(*was, table)
	*was = table
	checked := func(s *changes.Service) bool { return s.HealthCheckNodePort != 0 }
	if !slices.ContainsFunc(gone, checked) && !slices.ContainsFunc(came, checked) {
		return
	}
	ports := map[uint16]local{}
	for _, t := range p.tables {
		for s := range t.All() {
			if !checked(s) {
				continue
			}
			// Every port and family of a service says the same: how many pods are here.
			l := local{s.Name.Namespace, s.Name.Service, s.LocalReady}
			if had := ports[s.HealthCheckNodePort]; had.endpoints > l.endpoints {
				l = had
			}
			ports[s.HealthCheckNodePort] = l
		}
	}
	select {
	case <-p.wish:
	default:
	}
	p.wish <- ports
}

// listening is one open port. Run owns the map of them, the handler reads local.
type listening struct {
	stop context.CancelFunc

	mu    sync.Mutex
	local local
}

// Run opens and closes ports as they are wished until ctx ends.
func (p *Ports) Run(ctx context.Context) error {
	open := map[uint16]*listening{}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() {
		for _, l := range open {
			l.stop()
		}
	}()
	var wish map[uint16]local
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case wish = <-p.wish:
		case <-retry:
		}
		retry = nil
		for port, l := range open {
			if _, wanted := wish[port]; !wanted {
				l.stop()
				delete(open, port)
			}
		}
		for port, what := range wish {
			if l := open[port]; l != nil {
				l.mu.Lock()
				l.local = what
				l.mu.Unlock()
				continue
			}
			l, err := p.listen(ctx, port, what, &serving)
			if err != nil {
				p.log.Warn("health check node port is not served", zap.String("namespace", what.namespace), zap.String("name", what.service), zap.Error(err))
				retry = time.After(retryListening)
				continue
			}
			open[port] = l
		}
	}
}

func (p *Ports) listen(ctx context.Context, port uint16, what local, serving *sync.WaitGroup) (*listening, error) {
	ln, err := net.Listen("tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	l := &listening{stop: stop, local: what}
	serving.Go(func() {
		if err := serve(ctx, ln, l.handler(p.state)); err != nil {
			p.log.Warn("health check node port ended", zap.Error(err))
		}
	})
	return l, nil
}

func (l *listening) handler(state *State) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		l.mu.Lock()
		what := l.local
		l.mu.Unlock()
		keepsUp := state.report(time.Now()).keepsUp
		body := struct {
			Service struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"service"`
			LocalEndpoints      int  `json:"localEndpoints"`
			ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
		}{LocalEndpoints: what.endpoints, ServiceProxyHealthy: keepsUp}
		body.Service.Namespace, body.Service.Name = what.namespace, what.service
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(what.endpoints))
		reply(w, what.endpoints > 0 && keepsUp, body)
	})
}
