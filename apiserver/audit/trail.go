package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/reload"
)

// Config is filled from flags.
type Config struct {
	PolicyFile string // empty: nothing is recorded
	Log        FileConfig
	Webhook    WebhookConfig
	Drain      time.Duration // how long what is buffered may take once we are told to stop
}

// Trail records requests. Begin is safe for concurrent use, on nil too; Run is called once.
type Trail struct {
	cfg     Config
	on      bool
	policy  atomic.Pointer[policy]
	text    []byte // of the policy file as it was at first
	sinks   []*queue
	keep    *keeper // nil: no log that is rotated
	metrics *metrics
	log     *zap.Logger
}

// New reads the policy and opens the log. Nothing is written before Run. An error names the file or the flag.
func New(cfg Config, reg prometheus.Registerer, log *zap.Logger) (*Trail, error) {
	t := &Trail{cfg: cfg, metrics: newMetrics(reg), log: log.Named("audit")}
	if cfg.PolicyFile != "" {
		p, err := reload.Read(cfg.PolicyFile, func(b []byte) (*policy, error) {
			t.text = b
			return parsePolicy(b)
		})
		if err != nil {
			return nil, fmt.Errorf("reading the audit policy: %w", err)
		}
		t.policy.Store(p)
	}
	if err := t.openSinks(); err != nil {
		return nil, err
	}
	switch t.on = cfg.PolicyFile != "" && len(t.sinks) > 0; {
	case t.on:
	case cfg.PolicyFile != "":
		t.log.Warn("an audit policy is given but nowhere to write: nothing is recorded", zap.String("file", cfg.PolicyFile))
	case len(t.sinks) > 0:
		t.log.Warn("an audit log or webhook is given but no policy: nothing is recorded")
	}
	return t, nil
}

func (t *Trail) openSinks() error {
	if c := t.cfg.Webhook; c.File != "" {
		if err := errors.Join(c.Buffering.validate("audit-webhook"), c.Truncation.validate("audit-webhook")); err != nil {
			return err
		}
		w, err := newWebhook(c)
		if err != nil {
			return fmt.Errorf("preparing the audit webhook: %w", err)
		}
		t.sinks = append(t.sinks, newQueue("webhook", c.Buffering, c.encode, w, t.metrics, t.log))
	}
	if c := t.cfg.Log; c.Path != "" {
		if err := errors.Join(c.Buffering.validate("audit-log"), c.Truncation.validate("audit-log")); err != nil {
			return err
		}
		encode := c.encode
		switch c.Format {
		case JSON:
		case Legacy:
			encode = legacy
		default:
			return fmt.Errorf("--audit-log-format %q: want %s or %s", c.Format, JSON, Legacy)
		}
		if c.MaxAge < 0 || c.MaxBackup < 0 || c.MaxSize < 0 {
			return fmt.Errorf("--audit-log-maxage %d, --audit-log-maxbackup %d, --audit-log-maxsize %d: must not be negative", c.MaxAge, c.MaxBackup, c.MaxSize)
		}
		l, err := openFile(c, func(err error) { t.log.Warn("the audit log grows on", zap.Error(err)) })
		if err != nil {
			return err
		}
		t.keep = l.keep
		t.sinks = append(t.sinks, newQueue("log", c.Buffering, encode, l, t.metrics, t.log))
	}
	return nil
}

// On says whether anything is recorded at all.
func (t *Trail) On() bool { return t != nil && t.on }

// Run writes events until ctx ends, then what is buffered, and reads the policy again when its file changes.
func (t *Trail) Run(ctx context.Context) error {
	var writers, others sync.WaitGroup
	for _, q := range t.sinks {
		writers.Go(func() { q.run(ctx, t.cfg.Drain) })
	}
	if t.keep != nil {
		others.Go(func() { t.keep.run(ctx, t.log) })
	}
	if t.on {
		others.Go(func() { reload.Follow(ctx, t.cfg.PolicyFile, t.text, t.reload) })
	}
	<-ctx.Done()
	others.Wait()
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	limit := time.NewTimer(t.cfg.Drain + patience)
	defer limit.Stop()
	select {
	case <-done:
		return nil
	case <-limit.C: // stuck in a write that nothing ends
		return errors.New("the audit sinks did not take all events in time")
	}
}

// reload takes a changed policy file. A bad one leaves the old in force.
func (t *Trail) reload(text []byte, err error) {
	var p *policy
	if err == nil {
		p, err = parsePolicy(text)
	}
	if err != nil {
		t.metrics.reloads.WithLabelValues("failure").Inc()
		t.log.Error("the audit policy changed to one that cannot be used: the old one stays in force",
			zap.String("file", t.cfg.PolicyFile), zap.Error(err))
		return
	}
	t.policy.Store(p)
	t.metrics.reloads.WithLabelValues("success").Inc()
	t.log.Info("the audit policy was read again", zap.String("file", t.cfg.PolicyFile), zap.Int("rules", len(p.rules)))
}

// send gives an event to every sink. The error says that it is not written where it must be.
func (t *Trail) send(ctx context.Context, e *auditv1.Event) error {
	t.metrics.events.Inc()
	var errs []error
	for _, q := range t.sinks {
		errs = append(errs, q.put(ctx, e))
	}
	return errors.Join(errs...)
}

// decide settles what is recorded of a request.
func (t *Trail) decide(u *request.User, i *request.Info) decision {
	d := t.policy.Load().decide(u, i)
	level := d.level
	if d.none() {
		level = auditv1.LevelNone
	}
	t.metrics.levels[level].Inc()
	return d
}
