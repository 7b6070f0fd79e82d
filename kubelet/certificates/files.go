package certificates

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/pki"
)

// read reads a file of a certificate and its key; fs.ErrNotExist when there is none.
func read(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return c, nil
}

// parse reads the certificate of a text that also has its key.
func parse(text []byte) (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	return pair.Leaf, nil
}

// save replaces a file whole.
func save(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("making the certificate folder: %w", err)
	}
	return pki.WriteFile(file, text, 0o600)
}

// pairOf is the certificate and key of a configuration, one after the other; nil when it has none.
func pairOf(c *rest.Config) ([]byte, error) {
	cert, key := c.CertData, c.KeyData
	var err error
	if len(cert) == 0 && c.CertFile != "" {
		if cert, err = os.ReadFile(c.CertFile); err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
	}
	if len(key) == 0 && c.KeyFile != "" && c.KeyFile != c.CertFile {
		if key, err = os.ReadFile(c.KeyFile); err != nil {
			return nil, fmt.Errorf("reading the client key: %w", err)
		}
	}
	if len(cert) == 0 {
		return nil, nil
	}
	return append(append(slices.Clone(cert), '\n'), key...), nil
}

// serves says whether a certificate is of somebody, for all his names and no others, and holds now.
func serves(c *x509.Certificate, id pki.Identity, now time.Time) bool {
	return now.Before(c.NotAfter) && c.Subject.CommonName == id.Name && slices.Equal(c.Subject.Organization, id.Groups) &&
		slices.Equal(c.DNSNames, id.DNS) && slices.EqualFunc(c.IPAddresses, id.IPs, net.IP.Equal)
}

// waitingKey is the key of a request that is not answered, or a new one, written before anybody hears of it.
func waitingKey(file string) (crypto.Signer, []byte, error) {
	text, err := os.ReadFile(file)
	if err == nil {
		if key, err := pki.ParseKey(text); err == nil {
			return key, text, nil
		}
		// Nobody knows a request by a key that cannot be read.
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("reading the key of a request: %w", err)
	}
	key, text, err := pki.NewKey()
	if err != nil {
		return nil, nil, err
	}
	return key, text, save(file, text)
}

func forget(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the key of a request: %w", err)
	}
	return nil
}
