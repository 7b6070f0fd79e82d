package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Write stores a pair as NAME.crt and NAME.key in dir, each replaced whole; the key is readable by its owner only.
func (p Pair) Write(dir, name string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the certificate folder: %w", err)
	}
	if err := replace(filepath.Join(dir, name+".key"), p.Key, 0o600); err != nil {
		return err
	}
	return replace(filepath.Join(dir, name+".crt"), p.Cert, 0o644)
}

// Read reads back what Write stored. The error is fs.ErrNotExist when there is nothing.
func Read(dir, name string) (Pair, error) {
	cert, err := os.ReadFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		return Pair{}, fmt.Errorf("reading certificate %s: %w", name, err)
	}
	key, err := os.ReadFile(filepath.Join(dir, name+".key"))
	if err != nil {
		return Pair{}, fmt.Errorf("reading key %s: %w", name, err)
	}
	return Pair{Cert: cert, Key: key}, nil
}

// EnsureAuthority reads the authority dir/name, or makes and writes it when there is none.
func EnsureAuthority(dir, name string) (*Authority, error) {
	p, err := Read(dir, name)
	if err == nil {
		return ParseAuthority(p)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	a, err := NewAuthority(name)
	if err != nil {
		return nil, err
	}
	return a, a.PEM().Write(dir, name)
}

// WriteFile replaces a file whole or not at all: who reads it sees the one content or the other, also after the power was cut.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, (*os.File).Sync)
}

// replace is WriteFile for what can be made again: it does not wait for the disk.
func replace(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, func(*os.File) error { return nil })
}

func write(path string, data []byte, mode fs.FileMode, settle func(*os.File) error) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(tmp.Name()))
		}
	}()
	if err = tmp.Chmod(mode); err != nil {
		return err
	}
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = settle(tmp); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Kubeconfig renders a kubeconfig that names certificate files (absolute paths), so that renewing the files is enough.
func Kubeconfig(cluster, server, user, caFile, certFile, keyFile string) ([]byte, error) {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[cluster] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: caFile}
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: certFile, ClientKey: keyFile}
	name := user + "@" + cluster
	cfg.Contexts[name] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	cfg.CurrentContext = name
	out, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, fmt.Errorf("rendering the kubeconfig of %s: %w", user, err)
	}
	return out, nil
}

// Files serves a certificate, its key and (optionally) the authorities that sign clients, from files. They are looked at
// again at most once a second, when a handshake asks; connections that exist go on. What cannot be read, as a pair of which one
// half is still the old one, leaves the former in force, which is counted (Reloads) and told. Safe for concurrent use.
type Files struct {
	certFile, keyFile, clientCAFile string // set once
	told                            func(error)

	mu      sync.Mutex
	looked  time.Time // guarded by mu, as all below
	stamp   [3]fileStamp
	cert    *tls.Certificate
	clients *x509.CertPool
}

type fileStamp struct {
	at   time.Time
	size int64
}

// NewFiles reads the files once, so that a wrong one is an error at start. clientCAFile may be empty.
func NewFiles(certFile, keyFile, clientCAFile string) (*Files, error) {
	f := &Files{certFile: certFile, keyFile: keyFile, clientCAFile: clientCAFile, told: func(error) {}}
	f.stamp = f.stamps()
	if err := f.load(); err != nil {
		return nil, err
	}
	f.looked = time.Now()
	return f, nil
}

// AwaitFiles is NewFiles for a certificate that is yet to come: until then no handshake succeeds.
func AwaitFiles(certFile, keyFile, clientCAFile string) (*Files, error) {
	f, err := NewFiles(certFile, keyFile, clientCAFile)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f = &Files{certFile: certFile, keyFile: keyFile, clientCAFile: clientCAFile, told: func(error) {}}
	f.stamp = f.stamps()
	f.clients, err = f.readClients()
	return f, err
}

// OnReload sets who hears of every later change of the files: nil when it is in force, else why it is not. It is called before
// the first handshake, if at all.
func (f *Files) OnReload(told func(error)) *Files {
	f.told = told
	return f
}

// errNoCertificate is why a handshake fails before there is anything to show.
var errNoCertificate = errors.New("no serving certificate available yet")

// ServerTLS is a server's configuration. With a client authority file, a client certificate is asked for and, when given,
// verified; whether one is required is decided above TLS.
func (f *Files) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, clients := f.current()
			if cert == nil {
				return nil, errNoCertificate
			}
			c := &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{*cert},
			}
			if clients != nil {
				c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, clients
			}
			return c, nil
		},
	}
}

// AskingTLS is a server's configuration that asks for a client certificate and proves only that the client has its key: who
// signed it is for the caller to verify, of tls.ConnectionState.PeerCertificates, so that he can answer what is wrong with it.
// known, which may give nil, are the authorities that clients are told of, so that they choose a certificate to send.
func (f *Files) AskingTLS(known func() *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, _ := f.current()
			if cert == nil {
				return nil, errNoCertificate
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{*cert},
				ClientAuth: tls.RequestClientCert, ClientCAs: known(),
			}, nil
		},
	}
}

func (f *Files) current() (*tls.Certificate, *x509.CertPool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= time.Second || f.cert == nil {
		f.looked = now
		// The stamps are older than what is read: a file that changes meanwhile is read once more.
		if s := f.stamps(); s != f.stamp {
			f.stamp = s // what is not good is not read again before it changes
			err := f.load()
			Reloaded(f.certFile, err)
			f.told(err)
		}
	}
	return f.cert, f.clients
}

func (f *Files) stamps() (s [3]fileStamp) {
	for i, name := range []string{f.certFile, f.keyFile, f.clientCAFile} {
		s[i] = stampOf(name)
	}
	return s
}

// stampOf is zero for a file that is not there.
func stampOf(name string) (s fileStamp) {
	if st, err := os.Stat(name); err == nil {
		s = fileStamp{st.ModTime(), st.Size()}
	}
	return s
}

func (f *Files) load() error {
	cert, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		return fmt.Errorf("reading the serving certificate %s: %w", f.certFile, err)
	}
	clients, err := f.readClients()
	if err != nil {
		return err
	}
	f.cert, f.clients = &cert, clients
	return nil
}

func (f *Files) readClients() (*x509.CertPool, error) {
	if f.clientCAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(f.clientCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading the client authority: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the client authority: %s holds no certificate", f.clientCAFile)
	}
	return clients, nil
}
