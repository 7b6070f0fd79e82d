package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pilothouse.dev/apiserver/admission/plugins"
	"pilothouse.dev/apiserver/allocator"
	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/bootstrap"
	"pilothouse.dev/apiserver/nodeproxy"
	"pilothouse.dev/apiserver/server"
	"pilothouse.dev/apiserver/storage/etcd"
)

// Config is everything the API server can be told.
type Config struct {
	Etcd      etcd.Config
	Serving   server.Config
	Kubelets  nodeproxy.Config
	Services  string // CIDR
	NodePorts string // from-to
	Advertise string
	Tokens    authn.TokenConfig
	Admission plugins.Choice
	Tolerate  time.Duration // how long a pod stays on a node in trouble when it does not say so itself
}

func flags(c *Config) []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "etcd-servers", Value: cli.NewStringSlice("https://127.0.0.1:2379"), Usage: "where etcd listens",
			Action: func(_ *cli.Context, v []string) error { c.Etcd.Endpoints = v; return nil }},
		&cli.StringFlag{Name: "etcd-cafile", Usage: "who signs etcd's certificate", Destination: &c.Etcd.CAFile},
		&cli.StringFlag{Name: "etcd-certfile", Usage: "our client certificate for etcd", Destination: &c.Etcd.CertFile},
		&cli.StringFlag{Name: "etcd-keyfile", Usage: "its key", Destination: &c.Etcd.KeyFile},
		&cli.StringFlag{Name: "etcd-prefix", Value: "/registry", Usage: "of all keys in etcd", Destination: &c.Etcd.Prefix},
		&cli.DurationFlag{Name: "etcd-compaction-interval", Value: 5 * time.Minute, Usage: "how old history may get", Destination: &c.Etcd.Compaction},
		&cli.StringFlag{Name: "bind-address", Value: "0.0.0.0", Usage: "address to listen on", Destination: &c.Serving.Address},
		&cli.IntFlag{Name: "secure-port", Value: 6443, Usage: "port to listen on", Destination: &c.Serving.Port},
		&cli.StringFlag{Name: "tls-cert-file", Usage: "serving certificate", Required: true, Destination: &c.Serving.CertFile},
		&cli.StringFlag{Name: "tls-private-key-file", Usage: "its key", Required: true, Destination: &c.Serving.KeyFile},
		&cli.StringFlag{Name: "client-ca-file", Usage: "who signs client certificates", Required: true, Destination: &c.Serving.ClientCAFile},
		&cli.DurationFlag{Name: "request-timeout", Value: time.Minute, Usage: "most time for a request that is no watch or stream", Destination: &c.Serving.RequestTimeout},
		&cli.DurationFlag{Name: "shutdown-grace-period", Value: 10 * time.Second, Usage: "time for running requests once told to stop", Destination: &c.Serving.DrainTimeout},
		&cli.StringFlag{Name: "advertise-address", Usage: "address at which pods reach this server", Destination: &c.Advertise},
		&cli.StringFlag{Name: "service-cluster-ip-range", Value: "10.96.0.0/16", Usage: "cluster addresses of services", Destination: &c.Services},
		&cli.StringFlag{Name: "service-node-port-range", Value: "30000-32767", Usage: "node ports of services", Destination: &c.NodePorts},
		&cli.StringFlag{Name: "kubelet-client-certificate", Usage: "our client certificate for kubelets", Destination: &c.Kubelets.CertFile},
		&cli.StringFlag{Name: "kubelet-client-key", Usage: "its key", Destination: &c.Kubelets.KeyFile},
		&cli.StringFlag{Name: "kubelet-certificate-authority", Usage: "who signs kubelets' serving certificates", Destination: &c.Kubelets.CAFile},
		&cli.StringFlag{Name: "service-account-signing-key-file", Usage: "signs service account tokens", Destination: &c.Tokens.SigningKey},
		&cli.StringSliceFlag{Name: "service-account-key-file", Usage: "checks service account tokens (default: the signing key)",
			Action: func(_ *cli.Context, v []string) error { c.Tokens.Keys = v; return nil }},
		&cli.StringSliceFlag{Name: "service-account-issuer", Usage: "issuer of service account tokens; the first issues, all are accepted (default: " + defaultIssuer + ")",
			Action: func(_ *cli.Context, v []string) error { c.Tokens.Issuers = v; return nil }},
		&cli.StringFlag{Name: "service-account-jwks-uri", Usage: "where others find the keys that check tokens (default: this server)", Destination: &c.Tokens.KeysURL},
		&cli.StringSliceFlag{Name: "api-audiences", Usage: "whom tokens are for that name nobody, and what this server answers to (default: the issuer)",
			Action: func(_ *cli.Context, v []string) error { c.Tokens.Audiences = v; return nil }},
		&cli.StringSliceFlag{Name: "enable-admission-plugins", Usage: "admission plugins beside those that are on by default: " + strings.Join(plugins.Defaults(), ", "),
			Action: func(_ *cli.Context, v []string) error { c.Admission.Enable = v; return nil }},
		&cli.StringSliceFlag{Name: "disable-admission-plugins", Usage: "admission plugins that are not to run",
			Action: func(_ *cli.Context, v []string) error { c.Admission.Disable = v; return nil }},
		&cli.DurationFlag{Name: "default-toleration", Value: 30 * time.Second, Usage: "how long a pod that does not say stays on a node that is not ready or unreachable", Destination: &c.Tolerate},
	}
}

const defaultIssuer = "https://kubernetes.default.svc.cluster.local"

// tokens says how tokens are issued and checked.
func (c Config) tokens() authn.TokenConfig {
	t := c.Tokens
	if len(t.Issuers) == 0 {
		t.Issuers = []string{defaultIssuer}
	}
	if t.KeysURL == "" {
		if host := c.Advertise; host != "" {
			t.KeysURL = "https://" + net.JoinHostPort(host, strconv.Itoa(c.Serving.Port)) + authn.KeysPath
		} else {
			t.KeysURL = strings.TrimSuffix(t.Issuers[0], "/") + authn.KeysPath
		}
	}
	return t
}

// addresses says what there is to give to services.
func (c Config) addresses() (allocator.Config, error) {
	prefix, err := netip.ParsePrefix(c.Services)
	if err != nil {
		return allocator.Config{}, fmt.Errorf("--service-cluster-ip-range %q: want a CIDR such as 10.96.0.0/16: %w", c.Services, err)
	}
	a := allocator.Config{CIDRs: []netip.Prefix{prefix.Masked()}}
	if _, err := fmt.Sscanf(c.NodePorts, "%d-%d", &a.Ports.First, &a.Ports.Last); err != nil {
		return a, fmt.Errorf("--service-node-port-range %q: want two ports such as 30000-32767: %w", c.NodePorts, err)
	}
	return a, nil
}

// bootstrap says what this server is called inside the cluster.
func (c Config) bootstrap() (bootstrap.Config, error) {
	prefix, err := netip.ParsePrefix(c.Services)
	if err != nil {
		return bootstrap.Config{}, fmt.Errorf("--service-cluster-ip-range %q: want a CIDR such as 10.96.0.0/16: %w", c.Services, err)
	}
	b := bootstrap.Config{ServiceIP: net.IP(prefix.Masked().Addr().Next().AsSlice()), Port: c.Serving.Port, ServiceCIDRs: []string{prefix.Masked().String()}}
	if c.Advertise != "" {
		if b.Advertise = net.ParseIP(c.Advertise); b.Advertise == nil {
			return b, fmt.Errorf("--advertise-address %q: want an IP address", c.Advertise)
		}
	}
	return b, nil
}
