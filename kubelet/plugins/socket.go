package plugins

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	answer   = 10 * time.Second       // most time of one call of a plugin
	patience = 5 * time.Minute        // most time of a handler
	soonest  = 500 * time.Millisecond // before a registration that failed is tried again, the first time
	latest   = 2 * time.Minute        // and at most

)

// follow is the life of one path: it registers what serves there, and lets it go when it is gone.
func (w *Watcher) follow(ctx context.Context, path string, wake <-chan struct{}) {
	var (
		have   life    // that was registered
		tried  life    // that was tried last
		known  *Plugin // what have presented
		wait   time.Duration
		retry  = time.NewTimer(time.Hour)
		failed string
	)
	defer retry.Stop()
	retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-retry.C:
		}
		now := lifeOf(path)
		if now == (life{}) {
			retry.Stop()
			if known != nil {
				w.drop(ctx, path, *known)
			}
			have, tried, known, wait, failed = life{}, life{}, nil, 0, ""
			continue
		}
		if now == have {
			continue
		}
		if now != tried {
			tried, wait, failed = now, 0, ""
		}
		p, err := w.register(ctx, path)
		if err == nil {
			if known != nil && key(*known) != key(p) {
				w.drop(ctx, path, *known) // another plugin took the place
			}
			retry.Stop()
			have, known, wait, failed = now, &p, 0, ""
			w.log.Info("a plugin is registered", zap.String("type", p.Type), zap.String("name", p.Name), zap.String("socket", path))
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if lifeOf(path) != now {
			retry.Reset(0) // it went meanwhile
			continue
		}
		if text := err.Error(); text != failed {
			failed = text
			w.log.Warn("registering a plugin", zap.String("socket", path), zap.Error(err))
		}
		wait = min(max(2*wait, soonest), latest)
		retry.Reset(wait)
	}
}

func key(p Plugin) owned { return owned{p.Type, p.Name} }

// register asks who serves at a socket, hands it to its room, and tells it how that went.
func (w *Watcher) register(ctx context.Context, path string) (Plugin, error) {
	conn, err := Client(path)
	if err != nil {
		return Plugin{}, fmt.Errorf("dialling: %w", err)
	}
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	ask, cancel := context.WithTimeout(ctx, answer)
	info, err := client.GetInfo(ask, &registration.InfoRequest{})
	cancel()
	if err != nil {
		return Plugin{}, fmt.Errorf("asking who it is: %w", err)
	}
	p := Plugin{Type: info.Type, Name: info.Name, Endpoint: info.Endpoint, Versions: info.SupportedVersions}
	if p.Endpoint == "" {
		p.Endpoint = path
	}
	refused := w.hand(ctx, path, p)
	said := &registration.RegistrationStatus{PluginRegistered: refused == nil}
	if refused != nil {
		said.Error = "RegisterPlugin error -- " + refused.Error()
	}
	tell, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	_, err = client.NotifyRegistrationStatus(tell, said)
	if refused != nil {
		return Plugin{}, refused
	}
	if err != nil {
		// It serves, and does not know that we know: it will be told when it presents itself again.
		w.log.Warn("telling a plugin that it is registered", zap.String("name", p.Name), zap.String("socket", path), zap.Error(err))
	}
	return p, nil
}

// hand gives a plugin to the room of its type.
func (w *Watcher) hand(ctx context.Context, path string, p Plugin) error {
	h := w.handlers[p.Type]
	if h == nil {
		return fmt.Errorf("no handler registered for plugin type: %s at socket %s", p.Type, path)
	}
	if p.Name == "" {
		return fmt.Errorf("plugin at socket %s has no name", path)
	}
	o := w.owner(p)
	o.Lock()
	defer o.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := h.Register(ctx, p); err != nil {
		return err
	}
	o.path = path
	return nil
}

// drop lets a plugin go, unless another socket has its name by now.
func (w *Watcher) drop(ctx context.Context, path string, p Plugin) {
	o := w.owner(p)
	o.Lock()
	defer o.Unlock()
	if o.path != path {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w.handlers[p.Type].Deregister(ctx, p.Name)
	o.path = ""
	w.log.Info("a plugin is gone", zap.String("type", p.Type), zap.String("name", p.Name), zap.String("socket", path))
}

func (w *Watcher) owner(p Plugin) *owner {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.owners[key(p)]
	if o == nil {
		o = &owner{}
		w.owners[key(p)] = o
	}
	return o
}
