// Package oidc tells callers by the ID tokens of OpenID Connect issuers
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens): one that flags name, or those of an
// AuthenticationConfiguration file, which also says what may be asked for anonymously and is read again when it changes. The union of
// authn asks it. An issuer that is away holds up nothing but its own tokens. The file's CEL expressions are refused.
package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/pkg/reload"
)

// Config is filled from flags.
type Config struct {
	File         string // an AuthenticationConfiguration; empty: Flags count
	Flags        Flags
	Disallowed   []string // issuers that are this server itself
	AnonymousSet bool     // a flag says what is anonymous, so the file must not
}

// Issuers are those that are trusted now. Run it once. Safe for concurrent use.
type Issuers struct {
	cfg     Config
	known   []byte // the file as it was at start
	metrics *metrics
	log     *zap.Logger

	now atomic.Pointer[set]
}

// set is what one state of the configuration means.
type set struct {
	byURL  map[string]*issuer
	nobody *authn.Nobody // nil: the file says nothing
}

// New reads the configuration; an error names the file, or the flag. No issuer is asked before Run.
func New(cfg Config, reg prometheus.Registerer, log *zap.Logger) (*Issuers, error) {
	s := &Issuers{cfg: cfg, log: log.Named("oidc")}
	s.now.Store(&set{})
	switch {
	case cfg.File != "" && !cfg.Flags.empty():
		return nil, errors.New("authentication-config file and oidc-* flags are mutually exclusive")
	case cfg.File != "":
		text, err := os.ReadFile(cfg.File)
		if err != nil {
			return nil, fmt.Errorf("--authentication-config: %w", err)
		}
		next, err := s.read(text)
		if err != nil {
			return nil, fmt.Errorf("--authentication-config: %s: %w", cfg.File, err)
		}
		s.known, s.metrics = text, newMetrics(reg)
		s.metrics.config(text)
		s.now.Store(next)
	case !cfg.Flags.empty():
		t, err := cfg.Flags.issuer(cfg.Disallowed)
		if err != nil {
			return nil, err
		}
		i, err := newIssuer(*t)
		if err != nil {
			return nil, err
		}
		s.now.Store(&set{byURL: map[string]*issuer{t.Issuer.URL: i}})
	}
	return s, nil
}

// read makes the set that a file says. Issuers of which it says the same as before go on.
func (s *Issuers) read(text []byte) (*set, error) {
	d, err := parse(text, s.cfg)
	if err != nil {
		return nil, err
	}
	before := s.now.Load()
	next := &set{byURL: map[string]*issuer{}}
	for _, t := range d.JWT {
		i, err := newIssuer(t)
		if err != nil {
			return nil, err
		}
		if old := before.byURL[t.Issuer.URL]; old != nil && old.text == i.text {
			i = old
		}
		next.byURL[t.Issuer.URL] = i
	}
	if a := d.Anonymous; a != nil {
		var paths []string
		for _, c := range a.Conditions {
			paths = append(paths, c.Path)
		}
		next.nobody = authn.NewNobody(a.Enabled, paths)
	}
	return next, nil
}

// Nobody is what the file says of those who give no proof; nil: nothing.
func (s *Issuers) Nobody() *authn.Nobody { return s.now.Load().nobody }

// Check implements authn.Bearer. The audiences are not those of the tokens, which are for the issuer's clients.
func (s *Issuers) Check(ctx context.Context, token string, _ []string) (*authn.Found, error) {
	now := s.now.Load()
	if len(now.byURL) == 0 {
		return nil, authn.ErrNotMine
	}
	i := now.byURL[saysIssuer(token)]
	if i == nil {
		return nil, authn.ErrNotMine
	}
	return i.check(ctx, token)
}

// saysIssuer is whom a token names as its issuer, not yet to be believed; empty when it is no token of this kind.
func saysIssuer(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	body, _, ok := strings.Cut(rest, ".")
	if !ok {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(text, &c) != nil {
		return ""
	}
	if c.Issuer == "accounts.google.com" { // which leaves the scheme out
		return "https://accounts.google.com"
	}
	return c.Issuer
}

// Run asks the issuers what they sign with, and follows the file, until ctx ends.
func (s *Issuers) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	s.begin(ctx, &all, s.now.Load())
	if s.cfg.File == "" {
		<-ctx.Done()
		return nil
	}
	reload.Follow(ctx, s.cfg.File, s.known, func(text []byte, err error) { s.changed(ctx, &all, text, err) })
	return nil
}

// changed takes a new content of the file, or leaves the former in force.
func (s *Issuers) changed(ctx context.Context, all *sync.WaitGroup, text []byte, err error) {
	var next *set
	if err == nil {
		next, err = s.read(text)
	}
	s.metrics.reloaded(text, err)
	if err != nil {
		s.log.Error("the authentication configuration is not good, the former stays in force", zap.String("file", s.cfg.File), zap.Error(err))
		return
	}
	before := s.now.Swap(next)
	for url, i := range before.byURL {
		if next.byURL[url] != i {
			i.dropped.Store(true)
			i.stop()
		}
	}
	s.begin(ctx, all, next)
	s.log.Info("the authentication configuration is read anew", zap.String("file", s.cfg.File), zap.Int("issuers", len(next.byURL)))
}

// begin starts what has not been started of the set.
func (s *Issuers) begin(ctx context.Context, all *sync.WaitGroup, now *set) {
	for _, i := range now.byURL {
		i.once.Do(func() {
			ctx, stop := context.WithCancel(ctx)
			i.stop = stop
			all.Go(func() { i.discover(ctx, s.log) })
		})
	}
}

// metrics are named as Kubernetes users know them.
type metrics struct {
	server  string
	reloads *prometheus.CounterVec
	at      *prometheus.GaugeVec
	info    *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	const prefix = "apiserver_authentication_config_controller_"
	m := &metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "automatic_reloads_total", Help: "Changes of the authentication configuration, by whether they were taken.",
		}, []string{"status", "apiserver_id_hash"}),
		at: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "automatic_reload_last_timestamp_seconds", Help: "When the authentication configuration last changed, by whether that was taken.",
		}, []string{"status", "apiserver_id_hash"}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "last_config_info", Help: "The hash of the authentication configuration in force.",
		}, []string{"apiserver_id_hash", "hash"}),
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // a label
	}
	m.server = hashed([]byte(host))
	reg.MustRegister(m.reloads, m.at, m.info)
	return m
}

func hashed(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func (m *metrics) config(text []byte) {
	m.info.Reset()
	m.info.WithLabelValues(m.server, hashed(text)).Set(1)
}

func (m *metrics) reloaded(text []byte, err error) {
	status := "success"
	if err != nil {
		status = "failure"
	} else {
		m.config(text)
	}
	m.reloads.WithLabelValues(status, m.server).Inc()
	m.at.WithLabelValues(status, m.server).SetToCurrentTime()
}
