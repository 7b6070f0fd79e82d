// Package certificates gets the kubelet its two certificates and renews them: the one by which it calls the API server, first by a
// bootstrap token, and the one by which it is called
// (https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/). main calls Open before there are clients,
// and runs a Keeper a certificate; what uses a certificate reads its file again when it changes (pkg/client, pkg/pki).
//
// A certificate and its key stand in one file, NAME-current.pem, readable by its owner only and replaced whole, so that they always
// fit. The life of each:
//
//	none ──▶ asked ──issued──▶ held ──at 70 to 90 % of its life──▶ asked …
//	           │
//	           ├── not answered yet: looked at again, ever more seldom; the key waits in NAME-request.key, so that a kubelet
//	           │   that starts anew finds the request that it made
//	           └── denied, failed: the key is forgotten and, after a growing pause, another request made
//
// What always holds: one request at a time, never a new one while one is not answered, and a held certificate serves until its
// end, whatever happens to requests.
package certificates

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"go.uber.org/zap"

	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/pki"
)

// Config says whose certificates, and where they are.
type Config struct {
	Node string
	IPs  []netip.Addr
	// Dir holds the certificates.
	Dir string
	// Kubeconfig is written when BootstrapKubeconfig is used, which is when there is no Kubeconfig or its certificate has ended.
	Kubeconfig, BootstrapKubeconfig string
	// Rotate says whether the client certificate is renewed.
	Rotate bool
}

// ServingFile is where the serving certificate and its key are.
func (c Config) ServingFile() string { return filepath.Join(c.Dir, "kubelet-server-current.pem") }

func (c Config) clientFile() string { return filepath.Join(c.Dir, "kubelet-client-current.pem") }

func (c Config) identity() pki.Identity {
	return pki.Identity{Name: pki.NodeUserPrefix + c.Node, Groups: []string{pki.NodesGroup}}
}

// Open returns how to call the API server: by the kubeconfig or, for a node that is new, by one that it writes once its request,
// made with the bootstrap kubeconfig, is answered. It waits for that as long as ctx lasts.
func Open(ctx context.Context, cfg Config, log *zap.Logger) (*rest.Config, error) {
	if cfg.BootstrapKubeconfig != "" && !cfg.joined(time.Now()) {
		if err := cfg.join(ctx, log.Named("certificates")); err != nil {
			return nil, fmt.Errorf("joining by %s: %w", cfg.BootstrapKubeconfig, err)
		}
	}
	to, err := client.Load(cfg.Kubeconfig, "kubelet")
	if err != nil || !cfg.Rotate {
		return to, err
	}
	if err := cfg.adopt(to); err != nil {
		return nil, err
	}
	return to, nil
}

// joined says whether the kubeconfig is of use: it names this node by a certificate that holds, or it needs none.
func (c Config) joined(now time.Time) bool {
	to, err := client.Load(c.Kubeconfig, "kubelet")
	if err != nil {
		return false
	}
	text, err := pairOf(to)
	if err != nil {
		return false
	}
	if text == nil {
		return to.BearerToken != "" || to.BearerTokenFile != ""
	}
	held, err := parse(text)
	return err == nil && serves(held, c.identity(), now)
}

func (c Config) join(ctx context.Context, log *zap.Logger) error {
	requests, err := c.bootstrap()
	if err != nil {
		return err
	}
	boot, err := client.Load(c.BootstrapKubeconfig, "kubelet")
	if err != nil {
		return err
	}
	log.Info("asking for a certificate by the bootstrap kubeconfig", zap.String("node", c.Node))
	if err := newClient(c, func() (Requests, error) { return requests, nil }, log).first(ctx); err != nil {
		return err
	}
	return c.writeKubeconfig(boot)
}

// bootstrap are requests made as who joins.
func (c Config) bootstrap() (Requests, error) {
	boot, err := client.Load(c.BootstrapKubeconfig, "kubelet")
	if err != nil {
		return nil, err
	}
	api, err := client.New(client.Patient(boot))
	if err != nil {
		return nil, err
	}
	return api.Kube.CertificatesV1().CertificateSigningRequests(), nil
}

// writeKubeconfig writes where the API server is, as the bootstrap kubeconfig has it, and who we are, by the file of our certificate.
func (c Config) writeKubeconfig(boot *rest.Config) error {
	const cluster, user, name = "default-cluster", "default-auth", "default-context"
	file, err := filepath.Abs(c.clientFile())
	if err != nil {
		return err
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[cluster] = &clientcmdapi.Cluster{
		Server: boot.Host, TLSServerName: boot.ServerName, InsecureSkipTLSVerify: boot.Insecure,
		CertificateAuthority: boot.CAFile, CertificateAuthorityData: boot.CAData,
	}
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: file, ClientKey: file}
	cfg.Contexts[name] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	cfg.CurrentContext = name
	text, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("rendering the kubeconfig: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.Kubeconfig), 0o755); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return pki.WriteFile(c.Kubeconfig, text, 0o600)
}

// adopt makes the file of the client certificate, when it has none that holds, of what the kubeconfig names, and turns the
// configuration to that file: there renewals appear.
func (c Config) adopt(to *rest.Config) error {
	held, err := read(c.clientFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if held == nil || !serves(held, c.identity(), time.Now()) {
		text, err := pairOf(to)
		if err != nil || text == nil {
			return err // who calls by a token has nothing to renew
		}
		if err := save(c.clientFile(), text); err != nil {
			return err
		}
	}
	to.CertFile, to.KeyFile, to.CertData, to.KeyData = c.clientFile(), c.clientFile(), nil, nil
	return nil
}

// Client keeps the certificate by which the kubelet calls. When it has ended, as after a long time without a control plane, it is
// asked for by the bootstrap kubeconfig again, if there is one.
func Client(cfg Config, api Requests, log *zap.Logger) *Keeper {
	var k *Keeper
	k = newClient(cfg, func() (Requests, error) {
		if held := k.held.Load(); cfg.BootstrapKubeconfig != "" && (held == nil || !time.Now().Before(held.NotAfter)) {
			return cfg.bootstrap()
		}
		return api, nil
	}, log.Named("certificates"))
	return k
}

func newClient(cfg Config, requests func() (Requests, error), log *zap.Logger) *Keeper {
	return newKeeper("client", cfg.clientFile(), cfg.identity(), certificatesv1.KubeAPIServerClientKubeletSignerName,
		[]certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}, requests, log)
}

// Serving keeps the certificate by which the kubelet is called: for its node's name and addresses.
func Serving(cfg Config, api Requests, log *zap.Logger) *Keeper {
	id := cfg.identity()
	id.DNS = []string{cfg.Node}
	for _, ip := range cfg.IPs {
		id.IPs = append(id.IPs, net.IP(ip.AsSlice()))
	}
	return newKeeper("server", cfg.ServingFile(), id, certificatesv1.KubeletServingSignerName,
		[]certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		func() (Requests, error) { return api, nil }, log.Named("certificates"))
}
