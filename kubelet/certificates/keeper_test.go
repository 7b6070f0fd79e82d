package certificates

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pki"
)

var resource = schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}

// office is where requests are made, in memory: strict, and with a signer that does what it is told.
type office struct {
	mu       sync.Mutex // held by calls, and by tests
	t        *testing.T
	ca       *pki.Authority
	life     time.Duration
	away     bool // nobody answers calls
	deny     bool
	closed   bool // requests are taken and not answered
	made     []*certificatesv1.CertificateSigningRequest
	asked    int           // calls
	at       []time.Time   // when requests were made
	ends     time.Time     // of the last certificate
	gap      time.Duration // the shortest time that was left of a certificate when the next was made
	answered int
}

func (o *office) Create(ctx context.Context, r *certificatesv1.CertificateSigningRequest, _ metav1.CreateOptions) (*certificatesv1.CertificateSigningRequest, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	if o.away {
		return nil, errors.New("connection refused")
	}
	if _, err := pki.ParseRequest(r.Spec.Request); err != nil {
		o.t.Errorf("a bad request: %v", err)
	}
	for _, have := range o.made {
		if have.Name == r.Name {
			return nil, apierrors.NewAlreadyExists(resource, r.Name)
		}
	}
	o.made, o.at = append(o.made, r.DeepCopy()), append(o.at, time.Now())
	return r.DeepCopy(), nil
}

func (o *office) Get(_ context.Context, name string, _ metav1.GetOptions) (*certificatesv1.CertificateSigningRequest, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	if o.away {
		return nil, errors.New("connection refused")
	}
	for _, r := range o.made {
		if r.Name == name {
			o.answer(r)
			return r.DeepCopy(), nil
		}
	}
	return nil, apierrors.NewNotFound(resource, name)
}

// with is how a test looks and changes.
func (o *office) with(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
}

func (o *office) answer(r *certificatesv1.CertificateSigningRequest) {
	if o.closed || len(r.Status.Certificate) > 0 || len(r.Status.Conditions) > 0 {
		return
	}
	if o.deny {
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: "Denied", Reason: "NotToday"}}
		return
	}
	now := time.Now()
	if !o.ends.IsZero() {
		if left := o.ends.Sub(now); o.gap == 0 || left < o.gap {
			o.gap = left
		}
	}
	r.Status.Certificate = signed(o.t, o.ca, r, now, o.life)
	o.ends = now.Add(o.life)
	o.answered++
}

func newOffice(t *testing.T) *office {
	t.Helper()
	ca, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	return &office{t: t, ca: ca, life: time.Hour}
}

func node(t *testing.T) Config {
	return Config{Node: "a", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Dir: filepath.Join(t.TempDir(), "pki"), Rotate: true}
}

// run runs keepers in virtual time.
func run(t *testing.T, keepers ...*Keeper) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(keepers))
	for _, k := range keepers {
		go func() { ended <- k.Run(ctx) }()
	}
	return func() {
		cancel()
		for range keepers {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("a keeper ended: %v", err)
			}
		}
	}
}

// Two days of certificates that live an hour: each is renewed between 70 and 90 % of its life, by one request.
func TestRenewsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, of := range map[string]func(Config, *office) *Keeper{
			"client":  func(c Config, o *office) *Keeper { return Client(c, o, logging.ForTest(t)) },
			"serving": func(c Config, o *office) *Keeper { return Serving(c, o, logging.ForTest(t)) },
		} {
			cfg, o := node(t), newOffice(t)
			k := of(cfg, o)
			stop := run(t, k)
			for range 2 * 24 * 4 {
				time.Sleep(15 * time.Minute)
				synctest.Wait()
				c, err := read(k.file)
				if err != nil || !serves(c, k.id, time.Now()) {
					t.Fatalf("%s: at %v there is %v, %v", name, time.Now(), c, err)
				}
			}
			stop()
			if o.gap < 5*time.Minute || o.gap > 18*time.Minute+time.Second {
				t.Errorf("%s: at worst %v of an hour were left, want 6 to 18 minutes", name, o.gap)
			}
			if n := len(o.made); n != o.answered || n < 2*24 || n > 2*24*10/6 {
				t.Errorf("%s: %d requests and %d answers in two days", name, n, o.answered)
			}
			if st, err := os.Stat(k.file); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%s: the file's mode is %v, %v", name, st.Mode(), err)
			}
			if _, err := os.Stat(k.keyFile); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: the key of an answered request was left behind: %v", name, err)
			}
		}
	})
}

// While the control plane is away, or people take their time, nobody is stormed, and the held certificate stays.
func TestNoStorm(t *testing.T) {
	for name, tc := range map[string]struct {
		trouble func(*office)
		calls   int // at most in a day
		made    int // requests at most
	}{
		"away":        {func(o *office) { o.away = true }, 24*60/4 + 20, 0},
		"not looking": {func(o *office) { o.closed = true }, 24*60 + 200, 1},
		"denying":     {func(o *office) { o.deny = true }, 2 * (24*60/4 + 20), 24*60/4 + 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, o := node(t), newOffice(t)
				k := Client(cfg, o, logging.ForTest(t))
				stop := run(t, k)
				defer func() { stop() }()
				time.Sleep(time.Minute)
				synctest.Wait()
				first, err := read(k.file)
				if err != nil {
					t.Fatal(err)
				}
				var before, calls int
				o.with(func() {
					before, calls = len(o.made), o.asked
					tc.trouble(o)
				})
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				o.with(func() {
					if n := o.asked - calls; n < 20 || n > tc.calls {
						t.Errorf("%d calls in a day, want at most %d", n, tc.calls)
					}
					if n := len(o.made) - before; n > tc.made {
						t.Errorf("%d requests in a day, want at most %d", n, tc.made)
					}
				})
				if c, err := read(k.file); err != nil || !c.Equal(first) {
					t.Errorf("the certificate is gone: %v", err)
				}
				o.with(func() { o.away, o.closed, o.deny = false, false, false })
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if c, err := read(k.file); err != nil || !serves(c, k.id, time.Now()) {
					t.Errorf("ten minutes after the trouble there is no good certificate: %v", err)
				}
			})
		})
	}
}

// A kubelet that dies between request and answer finds its request again; one of another address asks anew.
func TestRestartBetweenRequestAndAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, o := node(t), newOffice(t)
		o.closed = true
		for range 3 {
			stop := run(t, Serving(cfg, o, logging.ForTest(t)))
			time.Sleep(10 * time.Second)
			stop()
		}
		if len(o.made) != 1 {
			t.Fatalf("%d requests by three lives", len(o.made))
		}
		o.closed = false
		k := Serving(cfg, o, logging.ForTest(t))
		stop := run(t, k)
		time.Sleep(10 * time.Second)
		stop()
		if c, err := read(k.file); err != nil || len(o.made) != 1 || !serves(c, k.id, time.Now()) {
			t.Fatalf("after %d requests there is %v, %v", len(o.made), c, err)
		}
		cfg.IPs = []netip.Addr{netip.MustParseAddr("192.0.2.2")}
		k = Serving(cfg, o, logging.ForTest(t))
		stop = run(t, k)
		time.Sleep(10 * time.Second)
		stop()
		if c, err := read(k.file); err != nil || len(o.made) != 2 || !serves(c, k.id, time.Now()) {
			t.Errorf("of another address, after %d requests, there is %v, %v", len(o.made), c, err)
		}
		// Neither half of a file nor half of a key holds anybody up.
		for _, f := range []string{k.file, k.keyFile} {
			if err := os.WriteFile(f, []byte("-----BEGIN"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		stop = run(t, Serving(cfg, o, logging.ForTest(t)))
		time.Sleep(10 * time.Second)
		stop()
		if c, err := read(k.file); err != nil || !serves(c, k.id, time.Now()) {
			t.Errorf("after broken files there is %v, %v", c, err)
		}
	})
}

// What is answered with is checked: another's name, or a certificate for another key, is not taken.
func TestUselessAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, o := node(t), newOffice(t)
		k := Client(cfg, o, logging.ForTest(t))
		other, err := o.ca.Issue(pki.Identity{Name: "system:node:a", Groups: []string{"system:nodes"}, Client: true}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(append(append(other.Cert, '\n'), other.Key...)); err != nil {
			t.Fatal(err)
		}
		o.closed = true
		stop := run(t, k)
		time.Sleep(time.Second)
		synctest.Wait()
		o.with(func() { o.made[0].Status.Certificate = other.Cert })
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if _, err := os.Stat(k.file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a certificate for another key was kept: %v", err)
		}
		o.with(func() { o.closed = false })
		time.Sleep(time.Minute)
		stop()
		if c, err := read(k.file); err != nil || !serves(c, k.id, time.Now()) || strings.HasSuffix(o.made[0].Name, o.made[1].Name) {
			t.Errorf("then there is %v, %v", c, err)
		}
	})
}

// signed is what a signer answers a request with.
func signed(t *testing.T, ca *pki.Authority, r *certificatesv1.CertificateSigningRequest, now time.Time, life time.Duration) []byte {
	t.Helper()
	csr, err := pki.ParseRequest(r.Spec.Request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ca.Sign(leafOf(csr, r.Spec.SignerName, now, life), csr.PublicKey, now)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func leafOf(csr *x509.CertificateRequest, signer string, now time.Time, life time.Duration) *x509.Certificate {
	usage := x509.ExtKeyUsageClientAuth
	if signer == certificatesv1.KubeletServingSignerName {
		usage = x509.ExtKeyUsageServerAuth
	}
	return &x509.Certificate{
		Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses, NotBefore: now, NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}
