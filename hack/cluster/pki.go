package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"pilothouse.dev/pkg/pki"
)

// renewBefore is how long before its end a certificate is made anew by `up`.
const renewBefore = 30 * 24 * time.Hour

// The names of authorities and of the service account key pair in the certificate folder.
const (
	clusterCA      = "cluster-ca"
	etcdCA         = "etcd-ca"
	serviceAccount = "service-account"
)

// identity is one certificate of the cluster: its file's name, who signs it, and whom it speaks for.
type identity struct {
	file string
	ca   string
	id   pki.Identity
}

// identities are all certificates of the control plane; those of nodes are in nodeIdentities. Kubelets ask for theirs themselves.
func (c *cluster) identities() []identity {
	local := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	a := c.addr()
	return []identity{
		{"etcd-server", etcdCA, pki.Identity{Name: "etcd", DNS: []string{"localhost"}, IPs: local, Server: true, Client: true}},
		{"apiserver-etcd-client", etcdCA, pki.Identity{Name: "apiserver", Client: true}},
		{"apiserver", clusterCA, pki.Identity{
			Name: "kubernetes", Server: true,
			DNS: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
			IPs: slices.Concat(ips(a.bridges()), ips(a.service(1)), local),
		}},
		{"apiserver-kubelet-client", clusterCA, pki.Identity{Name: kubeletClient, Client: true}},
		{"admin", clusterCA, pki.Identity{Name: "admin", Groups: []string{adminGroup}, Client: true}},
		{superAdmin, clusterCA, pki.Identity{Name: "super-admin", Groups: []string{"system:masters"}, Client: true}},
		{"scheduler", clusterCA, pki.Identity{Name: "system:kube-scheduler", DNS: []string{"localhost"}, IPs: local, Server: true, Client: true}},
		{"controller-manager", clusterCA, pki.Identity{Name: "system:kube-controller-manager", DNS: []string{"localhost"}, IPs: local, Server: true, Client: true}},
	}
}

// The names of identities that get their rights in access.go, and of the one that no role can take its rights from.
const (
	kubeletClient = "kube-apiserver-kubelet-client" // the API server, to kubelets
	adminGroup    = "kubeadm:cluster-admins"
	superAdmin    = "super-admin"
)

func (c *cluster) nodeIdentities(n *node) []identity {
	return []identity{
		{n.Name + "-kube-proxy", clusterCA, pki.Identity{Name: "system:kube-proxy", Groups: []string{"system:node-proxier"}, Client: true}},
	}
}

// issue writes whatever certificate is missing, ends soon or speaks for another, and the kubeconfigs that refer to them.
func (c *cluster) issue(wanted []identity) error {
	signers := map[string]*pki.Authority{}
	for _, name := range []string{clusterCA, etcdCA} {
		ca, err := pki.EnsureAuthority(c.path("pki"), name)
		if err != nil {
			return err
		}
		signers[name] = ca
	}
	for _, w := range wanted {
		ca := signers[w.ca]
		have, err := pki.Read(c.path("pki"), w.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && stillGood(have, ca, w.id) {
			continue
		}
		pair, err := ca.Issue(w.id, 0)
		if err != nil {
			return err
		}
		if err := pair.Write(c.path("pki"), w.file); err != nil {
			return err
		}
	}
	if _, err := os.Stat(c.key(serviceAccount)); errors.Is(err, fs.ErrNotExist) {
		pair, err := pki.NewKeyPair()
		if err != nil {
			return err
		}
		return pair.Write(c.path("pki"), serviceAccount)
	}
	return nil
}

// stillGood says whether a certificate from an earlier `up` serves on.
func stillGood(have pki.Pair, ca *pki.Authority, id pki.Identity) bool {
	block, _ := pem.Decode(have.Cert)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM().Cert)
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: time.Now().Add(renewBefore), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil && cert.Subject.CommonName == id.Name && slices.Equal(cert.Subject.Organization, id.Groups) &&
		slices.Equal(cert.DNSNames, id.DNS) && slices.EqualFunc(cert.IPAddresses, id.IPs, net.IP.Equal)
}

func (c *cluster) cert(name string) string { return c.path("pki", name+".crt") }
func (c *cluster) key(name string) string  { return c.path("pki", name+".key") }

// server is where the API is.
func (c *cluster) server() string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(c.addr().bridge(), uint16(c.addr().port(apiserverPort))))
}

// adminKubeconfig is what users are given.
func (c *cluster) adminKubeconfig() string { return c.path("kubeconfig") }

// writeKubeconfig writes the kubeconfig of the identity that has this file name.
func (c *cluster) writeKubeconfig(file, certificate, user string) error {
	data, err := pki.Kubeconfig(c.name, c.server(), user, c.cert(clusterCA), c.cert(certificate), c.key(certificate))
	if err != nil {
		return err
	}
	return replaceFile(file, data)
}

func (c *cluster) kubeconfigOf(certificate string) string {
	return c.path("kubeconfigs", certificate)
}

// clientTLS is how this command calls the cluster's daemons: as this identity, trusting this authority.
func (c *cluster) clientTLS(ca, certificate string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.cert(certificate), c.key(certificate))
	if err != nil {
		return nil, fmt.Errorf("reading certificate %s: %w", certificate, err)
	}
	data, err := os.ReadFile(c.cert(ca))
	if err != nil {
		return nil, fmt.Errorf("reading authority %s: %w", ca, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

func ips(addrs []netip.Addr) []net.IP {
	out := make([]net.IP, len(addrs))
	for i, a := range addrs {
		out[i] = a.AsSlice()
	}
	return out
}
