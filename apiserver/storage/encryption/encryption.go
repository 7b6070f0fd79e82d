// Package encryption keeps the values of chosen kinds unreadable in etcd
// (https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/): a file says which kinds, with which providers and keys. The
// first provider of a kind seals what is written; all of them may open what is read, each what bears its mark. A value that an
// older key sealed stays readable, and is sealed anew at its next write.
//
// The file is read again when it changes; one that is wrong leaves the old in force, and a log line and a metric say so. No key and no
// value is ever part of an error or a log line.
package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"pilothouse.dev/pkg/reload"
)

// Config is filled from flags.
type Config struct {
	File   string // an EncryptionConfiguration; empty: everything is stored as it is
	Reload bool   // when the file changes
}

// Keeper seals and opens. Safe for concurrent use.
type Keeper struct {
	cfg     Config
	log     *zap.Logger
	now     atomic.Pointer[rules]
	metrics metrics
}

// Open reads the file. An error names it, and what is wrong in it. KMS plugins are not waited for.
func Open(cfg Config, metrics prometheus.Registerer, log *zap.Logger) (*Keeper, error) {
	k := &Keeper{cfg: cfg, log: log.Named("encryption"), metrics: newMetrics(metrics)}
	k.now.Store(&rules{})
	if cfg.File == "" {
		return k, nil
	}
	r, err := reload.Read(cfg.File, parse)
	if err != nil {
		return nil, fmt.Errorf("--encryption-provider-config: %w", err)
	}
	k.use(r)
	return k, nil
}

// use puts r in force.
func (k *Keeper) use(r *rules) {
	k.now.Store(r)
	k.metrics.info.Reset()
	k.metrics.info.WithLabelValues(r.hash).Set(1)
}

// Seals says whether the configuration names the kind.
func (k *Keeper) Seals(group, plural string) bool { return len(k.now.Load().of(group, plural)) > 0 }

// Seal returns what is stored for a value of a kind at a path: the value itself when nothing says otherwise.
func (k *Keeper) Seal(ctx context.Context, group, plural string, path, value []byte) ([]byte, error) {
	providers := k.now.Load().of(group, plural)
	if len(providers) == 0 {
		return value, nil
	}
	b, err := providers[0].seal(ctx, path, value)
	k.metrics.did("to_storage", providers[0], err)
	if err != nil {
		return nil, fmt.Errorf("sealing with %s: %w", providers[0].name(), err)
	}
	return b, nil
}

// Open returns the value of what is stored; stale says that it would be stored otherwise now.
func (k *Keeper) Open(ctx context.Context, group, plural string, path, stored []byte) (value []byte, stale bool, err error) {
	providers := k.now.Load().of(group, plural)
	if len(providers) == 0 {
		if sealed(stored) {
			return nil, false, errUnknown(stored)
		}
		return stored, false, nil
	}
	for i, p := range providers {
		if !p.takes(stored) {
			continue
		}
		value, old, err := p.open(ctx, path, stored)
		k.metrics.did("from_storage", p, err)
		if err != nil {
			return nil, false, fmt.Errorf("opening what %s sealed: %w", p.name(), err)
		}
		return value, old || i > 0, nil
	}
	return nil, false, errUnknown(stored)
}

// errUnknown says that no provider takes a value, and by its mark which is missing.
func errUnknown(stored []byte) error {
	if !sealed(stored) {
		return errors.New("the value is not sealed, and the encryption configuration does not name the provider identity for it")
	}
	end, colons := len(prefix), 0
	for end < len(stored) && end < len(prefix)+200 && colons < 3 {
		if stored[end] == ':' {
			colons++
		}
		end++
	}
	return fmt.Errorf("the value is sealed by %s, which the encryption configuration does not name for it", bytes.TrimSuffix(stored[:end], []byte(":")))
}

// Healthy says whether every KMS plugin in use answered lately.
func (k *Keeper) Healthy(context.Context) error {
	var errs []error
	for _, p := range k.now.Load().kms {
		p.mu.Lock()
		ok := p.state.seed != nil && p.now().Before(p.state.until)
		p.mu.Unlock()
		if !ok {
			errs = append(errs, fmt.Errorf("kms plugin %q has not been well for %s", p.plugin, stateLife))
		}
	}
	return errors.Join(errs...)
}

// How often plugins are asked how they are.
const (
	checkWell = time.Minute
	checkIll  = 10 * time.Second
)

// Run follows the file and the plugins until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	defer func() { k.closeAll(k.now.Load()) }()
	changed := make(chan *rules)
	if k.cfg.Reload && k.cfg.File != "" {
		done := make(chan struct{})
		defer func() { <-done }()
		go func() {
			defer close(done)
			reload.Follow(ctx, k.cfg.File, k.now.Load().data, k.next(ctx, changed))
		}()
	}
	for {
		wait := k.checkAll(ctx)
		select {
		case <-ctx.Done():
			return nil
		case r := <-changed:
			old := k.now.Load()
			k.use(r)
			k.log.Info("the encryption configuration was read again", zap.String("file", k.cfg.File), zap.String("hash", r.hash))
			time.AfterFunc(retire, func() { k.closeAll(old) })
		case <-time.After(wait):
		}
	}
}

// retire is how long the plugins of a configuration that is no longer in force may still be asked.
const retire = time.Minute

// next takes each new content of the file. What is wrong changes nothing.
func (k *Keeper) next(ctx context.Context, changed chan<- *rules) func([]byte, error) {
	return func(data []byte, err error) {
		var r *rules
		if err == nil {
			r, err = parse(data)
		}
		if err == nil {
			for _, p := range r.kms { // one that does not answer cannot take over
				err = errors.Join(err, p.check(ctx))
			}
		}
		if err != nil {
			k.metrics.reloads.WithLabelValues("failure").Inc()
			k.log.Error("the encryption configuration cannot be used: the one before stays in force", zap.String("file", k.cfg.File), zap.Error(err))
			return
		}
		k.metrics.reloads.WithLabelValues("success").Inc()
		select {
		case changed <- r:
		case <-ctx.Done():
		}
	}
}

// checkAll asks all plugins how they are, and says when to ask again.
func (k *Keeper) checkAll(ctx context.Context) time.Duration {
	wait := checkWell
	for _, p := range k.now.Load().kms {
		if err := p.check(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("a key service is in trouble", zap.Error(err))
			wait = checkIll
		}
	}
	return wait
}

func (k *Keeper) closeAll(r *rules) {
	for _, p := range r.kms {
		if err := p.close(); err != nil {
			k.log.Debug("closing the connection to a key service", zap.Error(err))
		}
	}
}
