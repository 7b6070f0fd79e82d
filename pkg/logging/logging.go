// Package logging makes each daemon's one zap logger and leads the logs of the Kubernetes libraries (klog, logr) into it.
//
// Messages are constant and lower case, facts are typed fields with fixed keys (namespace, name, node, controller). Info is
// what an operator cares about, debug is one object's work, error means that a person must act.
package logging

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"k8s.io/klog/v2"
)

// Config is filled from flags: see daemon.Flags.
type Config struct {
	Level  string // debug, info, warn, error
	Format string // json or console
}

// New makes the logger of a daemon, writing to standard error, and leads klog and logr into it; it is called once a process.
func New(name string, cfg Config) (*zap.Logger, error) {
	level, err := zap.ParseAtomicLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warn or error", cfg.Level)
	}
	var zc zap.Config
	switch cfg.Format {
	case "json":
		zc = zap.NewProductionConfig()
		zc.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	case "console":
		zc = zap.NewDevelopmentConfig()
		zc.Development = false
		zc.EncoderConfig.EncodeLevel = zapcore.LowercaseLevelEncoder
	default:
		return nil, fmt.Errorf("log format %q: use json or console", cfg.Format)
	}
	zc.Level = level
	zc.Sampling = nil
	zc.DisableStacktrace = true
	log, err := zc.Build()
	if err != nil {
		return nil, fmt.Errorf("building the logger: %w", err)
	}
	log = log.Named(name)
	lead(log)
	return log, nil
}

// lead sends what the Kubernetes libraries log to ours. Their verbosity 0 is our debug: it speaks of single requests and
// retries, which our own code reports where it matters; their errors and warnings keep their level.
func lead(log *zap.Logger) {
	quiet := log.Named("lib").WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return quieter{c} }))
	klog.SetLogger(zapr.NewLogger(quiet))
}

// quieter is a core that writes info as debug.
type quieter struct{ zapcore.Core }

func (q quieter) With(f []zapcore.Field) zapcore.Core { return quieter{q.Core.With(f)} }

func (q quieter) Enabled(l zapcore.Level) bool { return q.Core.Enabled(down(l)) }

func (q quieter) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !q.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, q)
}

func (q quieter) Write(e zapcore.Entry, f []zapcore.Field) error {
	e.Level = down(e.Level)
	return q.Core.Write(e, f)
}

func down(l zapcore.Level) zapcore.Level {
	if l == zapcore.InfoLevel {
		return zapcore.DebugLevel
	}
	return l
}

// ForTest is a logger into the test's own output.
func ForTest(t testing.TB) *zap.Logger {
	return zaptest.NewLogger(t, zaptest.Level(zapcore.InfoLevel))
}

// Key finds the logger of a context. A context of a type of its own may answer it with one made on demand.
type Key struct{}

// Into puts a logger that carries a request's fields into its context.
func Into(ctx context.Context, log *zap.Logger) context.Context {
	return context.WithValue(ctx, Key{}, log)
}

// From returns the context's logger, or one that drops everything.
func From(ctx context.Context) *zap.Logger {
	if log, ok := ctx.Value(Key{}).(*zap.Logger); ok && log != nil {
		return log
	}
	return zap.NewNop()
}
