package csrsign

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/pkg/pki"
)

// Files are an authority's certificate and key, PEM.
type Files struct{ Cert, Key string }

// Config says with which authority each signer signs.
type Config struct {
	// All is every signer's. It excludes the others.
	All Files
	// KubeletServing, KubeletClient, APIServerClient and LegacyUnknown are one signer's each; a signer without files does not sign.
	KubeletServing, KubeletClient, APIServerClient, LegacyUnknown Files
	// Duration is how long certificates live at most.
	Duration time.Duration
}

// Check says what is wrong with the configuration, the files read.
func (c Config) Check() error {
	own := map[string]Files{"kubelet-serving-": c.KubeletServing, "kubelet-client-": c.KubeletClient, "kube-apiserver-client-": c.APIServerClient, "legacy-unknown-": c.LegacyUnknown}
	for name, f := range own {
		if f != (Files{}) && c.All != (Files{}) {
			return fmt.Errorf("--cluster-signing-cert-file and --cluster-signing-key-file cannot stand beside --cluster-signing-%scert-file and -key-file", name)
		}
	}
	own[""] = c.All
	for name, f := range own {
		if (f.Cert == "") != (f.Key == "") {
			return fmt.Errorf("--cluster-signing-%[1]scert-file and --cluster-signing-%[1]skey-file need each other", name)
		}
		if f.Cert == "" {
			continue
		}
		if _, err := f.read(); err != nil {
			return fmt.Errorf("--cluster-signing-%scert-file: %w", name, err)
		}
	}
	if c.Duration < leastLife {
		return fmt.Errorf("--cluster-signing-duration %v must be %v or more", c.Duration, leastLife)
	}
	return nil
}

// Any says whether any signer has an authority.
func (c Config) Any() bool { return len(c.signers()) > 0 }

// signers are the files of those that have some.
func (c Config) signers() map[string]Files {
	out := map[string]Files{}
	for signer, own := range map[string]Files{
		certificatesv1.KubeletServingSignerName:             c.KubeletServing,
		certificatesv1.KubeAPIServerClientKubeletSignerName: c.KubeletClient,
		certificatesv1.KubeAPIServerClientSignerName:        c.APIServerClient,
		LegacyUnknownSigner:                                 c.LegacyUnknown,
	} {
		if own == (Files{}) {
			own = c.All
		}
		if own != (Files{}) {
			out[signer] = own
		}
	}
	return out
}

func (f Files) read() (*pki.Authority, error) {
	cert, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("reading a signing authority: %w", err)
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return nil, fmt.Errorf("reading a signing authority: %w", err)
	}
	a, err := pki.ParseAuthority(pki.Pair{Cert: cert, Key: key})
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", f.Cert, f.Key, err)
	}
	return a, nil
}

// authority is what its files said when they were last good. Safe for concurrent use.
type authority struct {
	files Files
	log   *zap.Logger

	mu    sync.Mutex
	stamp [2]stamp // guarded by mu: of what was last tried
	last  *pki.Authority
}

type stamp struct {
	at   time.Time
	size int64
}

// current is the authority as its files are now, or as they last were good.
func (a *authority) current() (*pki.Authority, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var now [2]stamp
	for i, name := range []string{a.files.Cert, a.files.Key} {
		if st, err := os.Stat(name); err == nil {
			now[i] = stamp{st.ModTime(), st.Size()}
		}
	}
	if a.last != nil && now == a.stamp {
		return a.last, nil
	}
	read, err := a.files.read()
	pki.Reloaded(a.files.Cert, err)
	switch {
	case err == nil:
		a.last = read
	case a.last == nil:
		return nil, errors.Join(errors.New("there is no authority to sign with"), err)
	default:
		a.log.Error("reading a changed signing authority, signing with the former one", zap.Error(err))
	}
	a.stamp = now
	return a.last, nil
}
