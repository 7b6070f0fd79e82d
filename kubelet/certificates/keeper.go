package certificates

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/pkg/pki"
)

// Pauses between requests that did not succeed, and how long is slept at most without a look at the clock, which may jump.
const (
	firstPause = time.Second
	worstPause = 5 * time.Minute
	nap        = time.Minute
)

// Keeper keeps one certificate. Run works alone; the metrics may be read meanwhile.
type Keeper struct {
	// Set once.
	name     string // "client", "server"
	file     string // of the certificate and its key
	keyFile  string // of the key of a request that is not answered
	id       pki.Identity
	signer   string
	usages   []certificatesv1.KeyUsage
	requests func() (Requests, error)
	log      *zap.Logger
	failed   prometheus.Counter

	held atomic.Pointer[x509.Certificate]
}

func newKeeper(name, file string, id pki.Identity, signer string, usages []certificatesv1.KeyUsage, requests func() (Requests, error), log *zap.Logger) *Keeper {
	renewals := map[string]string{"client": "kubelet_certificate_manager_client_expiration_renew_errors", "server": "kubelet_server_expiration_renew_errors"}
	return &Keeper{
		name: name, file: file, keyFile: strings.TrimSuffix(file, "-current.pem") + "-request.key", id: id, signer: signer, usages: usages,
		requests: requests, log: log.With(zap.String("certificate", name)),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: renewals[name], Help: "Requests for a certificate that did not succeed."}),
	}
}

// Collectors are the metrics: what is left of the certificate's life, and how often asking for one did not succeed.
func (k *Keeper) Collectors() []prometheus.Collector {
	return []prometheus.Collector{k.failed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kubelet_certificate_manager_" + k.name + "_ttl_seconds", Help: "Seconds until the certificate ends; negative when it has, infinitely so without one.",
	}, func() float64 {
		if c := k.held.Load(); c != nil {
			return time.Until(c.NotAfter).Seconds()
		}
		return math.Inf(-1)
	})}
}

// Run keeps the certificate until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	due := time.Now()
	if c, err := k.load(); err != nil {
		k.log.Warn("reading a certificate, asking for another", zap.Error(err))
	} else if c != nil {
		due = renewal(c)
	}
	return k.keep(ctx, due, false)
}

// first asks until there is a certificate, and returns.
func (k *Keeper) first(ctx context.Context) error { return k.keep(ctx, time.Now(), true) }

func (k *Keeper) keep(ctx context.Context, due time.Time, once bool) error {
	pause := firstPause
	for {
		for wait := time.Until(due); wait > 0; wait = time.Until(due) {
			if err := sleep(ctx, min(wait, nap)); err != nil {
				return err
			}
		}
		c, err := k.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			k.failed.Inc()
			again := time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
			k.log.Warn("asking for a certificate, trying again", zap.Duration("in", again), zap.Error(err))
			if err := sleep(ctx, again); err != nil {
				return err
			}
			pause = min(2*pause, worstPause)
			continue
		}
		k.held.Store(c)
		k.log.Info("has a certificate", zap.Time("until", c.NotAfter))
		if once {
			return nil
		}
		due, pause = renewal(c), firstPause
	}
}

// load is the certificate that was kept, if it still serves.
func (k *Keeper) load() (*x509.Certificate, error) {
	c, err := read(k.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.held.Store(c)
	if !serves(c, k.id, time.Now()) {
		return nil, nil
	}
	return c, nil
}

// renewal is when a certificate is renewed: somewhere between 70 and 90 % of its life, so that nodes that joined together do not
// all ask together.
func renewal(c *x509.Certificate) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotBefore.Add(time.Duration((0.7 + 0.2*rand.Float64()) * float64(life)))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
