// Package modes makes the authorizer that flags or a file ask for: which sources of rules are asked, in which order
// (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-flags-for-your-authorization-module). A file is read
// again when it changes; one that is wrong then changes nothing but a metric and the log.
package modes

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/webhook"
	"pilothouse.dev/apiserver/hookclient"
	"pilothouse.dev/pkg/reload"
)

// The modes there are.
const (
	AlwaysAllow = "AlwaysAllow"
	AlwaysDeny  = "AlwaysDeny"
	Node        = "Node"
	RBAC        = "RBAC"
	Webhook     = "Webhook"
)

var all = []string{AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook}

// Default is the order without any flag: unlike upstream's, it is safe. DefaultPaths are open to anybody then.
var (
	Default      = []string{Node, RBAC}
	DefaultPaths = []string{"/healthz", "/readyz", "/livez"}
)

// Config is filled from flags.
type Config struct {
	Modes        []string      // in their order; empty: Default
	File         string        // an AuthorizationConfiguration, in place of all below and of Modes
	WebhookFile  string        // a kubeconfig
	Version      string        // of SubjectAccessReview that the webhook gets
	Authorized   time.Duration // how long its answers are kept
	Unauthorized time.Duration
	Paths        []string // that anybody may use; nil: DefaultPaths
}

// Parts are what the authorizer is made of.
type Parts struct {
	RBAC, Node authz.Source
	Metrics    prometheus.Registerer
	Log        *zap.Logger
}

// Modes is the authorizer, and how it is kept up to date. Run it once.
type Modes struct {
	*authz.Authorizer

	cfg     Config
	parts   Parts
	paths   *authz.Paths
	hooks   *webhook.Metrics
	reloads *reloads
	known   []byte // of the file
}

// New makes the authorizer. A flag or a file that is wrong is an error that says where and why.
func New(cfg Config, p Parts) (*Modes, error) {
	if cfg.Paths == nil {
		cfg.Paths = DefaultPaths
	}
	paths, err := authz.NewPaths(cfg.Paths)
	if err != nil {
		return nil, fmt.Errorf("--authorization-always-allow-paths: %w", err)
	}
	m := &Modes{cfg: cfg, parts: p, paths: paths, hooks: webhook.NewMetrics(p.Metrics)}
	m.parts.Log = p.Log.Named("authorization")
	var chosen []authz.Named
	if cfg.File == "" {
		chosen, err = m.fromFlags()
	} else {
		chosen, err = m.fromFile()
	}
	if err != nil {
		return nil, err
	}
	m.Authorizer = authz.NewCounted(authz.NewMetrics(p.Metrics), chosen)
	return m, nil
}

func (m *Modes) fromFlags() ([]authz.Named, error) {
	const flag = "--authorization-mode"
	modes := m.cfg.Modes
	if len(modes) == 0 {
		modes = Default
	}
	var out []authz.Named
	for i, mode := range modes {
		switch {
		case !slices.Contains(all, mode):
			return nil, fmt.Errorf("%s: %q is not a valid mode: one of %s", flag, mode, strings.Join(all, ", "))
		case slices.Contains(modes[:i], mode):
			return nil, fmt.Errorf("%s: %q has mode specified more than once", flag, modes)
		case mode == Webhook:
			if m.cfg.WebhookFile == "" {
				return nil, fmt.Errorf("%s: Webhook needs --authorization-webhook-config-file", flag)
			}
			if m.cfg.Version != "v1" && m.cfg.Version != "v1beta1" {
				return nil, fmt.Errorf("--authorization-webhook-version: %q is not a version: v1 or v1beta1", m.cfg.Version)
			}
			hook, err := m.hook(webhook.Config{
				Name: "default", Version: m.cfg.Version, Authorized: m.cfg.Authorized, Unauthorized: m.cfg.Unauthorized,
			}, m.cfg.WebhookFile, 0)
			if err != nil {
				return nil, fmt.Errorf("--authorization-webhook-config-file: %w", err)
			}
			out = append(out, authz.Named{Type: Webhook, Name: "default", Source: hook})
		default:
			out = append(out, authz.Named{Type: mode, Name: strings.ToLower(mode), Source: m.builtin(mode)})
		}
	}
	if m.cfg.WebhookFile != "" && !slices.Contains(modes, Webhook) {
		return nil, fmt.Errorf("--authorization-webhook-config-file: %s does not have Webhook", flag)
	}
	return m.open(out), nil
}

// fromFile reads the file, and notes what it holds so that Run knows when it changes.
func (m *Modes) fromFile() ([]authz.Named, error) {
	if len(m.cfg.Modes) > 0 || m.cfg.WebhookFile != "" {
		return nil, fmt.Errorf("--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined")
	}
	m.reloads = newReloads(m.parts.Metrics)
	data, err := os.ReadFile(m.cfg.File)
	if err != nil {
		return nil, fmt.Errorf("--authorization-config: %w", err)
	}
	chosen, err := m.parse(data)
	if err != nil {
		return nil, fmt.Errorf("--authorization-config %s: %w", m.cfg.File, err)
	}
	m.known = data
	m.reloads.inUse(data)
	return chosen, nil
}

func (m *Modes) parse(data []byte) ([]authz.Named, error) {
	list, err := parse(data)
	if err != nil {
		return nil, err
	}
	var out []authz.Named
	for _, a := range list {
		if a.Type != Webhook {
			out = append(out, authz.Named{Type: a.Type, Name: a.Name, Source: m.builtin(a.Type)})
			continue
		}
		hook, err := m.hook(a.Webhook.config(a.Name), *a.Webhook.ConnectionInfo.KubeConfigFile, a.Webhook.Timeout.Duration)
		if err != nil {
			return nil, fmt.Errorf("authorizer %q: %w", a.Name, err)
		}
		out = append(out, authz.Named{Type: Webhook, Name: a.Name, Source: hook})
	}
	return m.open(out), nil
}

// open puts the paths that are open to anybody before all others.
func (m *Modes) open(list []authz.Named) []authz.Named {
	return append([]authz.Named{{Type: "Path", Name: "path", Source: m.paths}}, list...)
}

func (m *Modes) builtin(mode string) authz.Source {
	switch mode {
	case Node:
		return m.parts.Node
	case RBAC:
		return m.parts.RBAC
	case AlwaysAllow:
		return authz.AlwaysAllow{}
	}
	return authz.AlwaysDeny{}
}

func (m *Modes) hook(c webhook.Config, file string, timeout time.Duration) (*webhook.Hook, error) {
	client, err := hookclient.FromKubeconfig(file, hookclient.Options{Timeout: timeout})
	if err != nil {
		return nil, err
	}
	return webhook.New(c, client, m.hooks), nil
}

// Run follows the file until ctx ends; without one it only waits.
func (m *Modes) Run(ctx context.Context) error {
	if m.cfg.File == "" {
		<-ctx.Done()
		return nil
	}
	reload.Follow(ctx, m.cfg.File, m.known, m.changed)
	return nil
}

func (m *Modes) changed(data []byte, err error) {
	var chosen []authz.Named
	if err == nil {
		chosen, err = m.parse(data)
	}
	if err != nil {
		m.reloads.done("failure")
		m.parts.Log.Error("the authorization configuration cannot be used: the old one stays in force", zap.String("file", m.cfg.File), zap.Error(err))
		return
	}
	m.Use(chosen)
	m.reloads.done("success")
	m.reloads.inUse(data)
	m.parts.Log.Info("the authorization configuration was read again", zap.String("file", m.cfg.File))
}
