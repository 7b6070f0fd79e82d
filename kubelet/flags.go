package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/access"
	"pilothouse.dev/kubelet/certificates"
	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/eviction"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/kubelet/node"
	"pilothouse.dev/kubelet/pods"
	"pilothouse.dev/kubelet/server"
	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/pkg/localvolume"
)

// Config is what the flags say.
	"pilothouse.dev/kubelet/stats"
type Config struct {
	Kubeconfig     string
	Bootstrap      string
	CertDir        string
	Rotate         bool
	RotateServing  bool
	NodeName       string
	NodeIP         string
	Labels, Taints cli.StringSlice
	RootDir        string
	LocalPathDir   string
	NetnsDir       string
	Manifests      string
	PodLogs        string
	MaxPods        int
	LeaseInterval  time.Duration

	Endpoint          string
	OCIRuntime        string
	CgroupRoot        string
	StartsInFlight    int
	ParallelPulls     int
	PlainHTTP         cli.StringSlice
	RegistryHosts     string
	LogMaxSize        string
	LogMaxFiles       int
	MaxRestartBackoff time.Duration
	EvictionHard      string
	EvictionSoft      string
	EvictionGraces    string
	EvictionReclaim   string
	EvictionMaxGrace  int
	PressureLasts     time.Duration

	ClusterDNS    cli.StringSlice
	ClusterDomain string
	ResolvConf    string
	CNIConfDir    string
	CNIBinDir     string

	Address               string
	Port                  int
	CertFile, KeyFile, CA string
	Access                access.Config // completed by access

	// Made of the above by complete.
	nodeIPs        []netip.Addr
	labels         map[string]string
	taints         []corev1.Taint
	logMax         int64
	thresholds     []eviction.Threshold
	evictionMemory int64 // what the hard threshold of memory keeps from pods
	tls            server.TLS
	others         map[string]*string // flags that are only known, as given; made by flags
}

func (c *Config) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kubeconfig", Destination: &c.Kubeconfig, Usage: "`FILE` that says where the API server is and who we are"},
		&cli.StringFlag{Name: "bootstrap-kubeconfig", Destination: &c.Bootstrap, Usage: "`FILE` by which a new node asks for its certificate; --kubeconfig is then written"},
		&cli.StringFlag{Name: "cert-dir", Destination: &c.CertDir, Usage: "`FOLDER` of certificates that the kubelet asks for (default: pki below --root-dir)"},
		&cli.BoolFlag{Name: "rotate-certificates", Destination: &c.Rotate, Usage: "renew the certificate by which the API server is called"},
		&cli.BoolFlag{Name: "rotate-server-certificates", Destination: &c.RotateServing, Usage: "ask for the certificate to serve with, and renew it, instead of --tls-cert-file"},
		&cli.StringFlag{Name: "hostname-override", Destination: &c.NodeName, Usage: "this node's `NAME` (default: the host name)"},
		&cli.StringFlag{Name: "node-ip", Destination: &c.NodeIP, Usage: "this node's `ADDRESS`, or two of both families with a comma between (default: that of the default route)"},
		&cli.StringSliceFlag{Name: "node-labels", Destination: &c.Labels, Usage: "`KEY=VALUE` labels to register with"},
		&cli.StringSliceFlag{Name: "register-with-taints", Destination: &c.Taints, Usage: "`KEY=VALUE:EFFECT` taints to register with"},
		&cli.StringFlag{Name: "root-dir", Value: "/var/lib/kubelet", Destination: &c.RootDir, Usage: "`FOLDER` of pods and their volumes"},
		&cli.StringFlag{Name: "local-path-dir", Value: localvolume.DefaultDir, Destination: &c.LocalPathDir, Usage: "`FOLDER` of the volumes that the provisioner pilothouse.dev/local-path makes; the controller manager has the same flag"},
		&cli.StringFlag{Name: "netns-dir", Value: "/run/pilothouse/pods", Destination: &c.NetnsDir, Usage: "`FOLDER` of pinned namespaces and streams, best on a tmpfs; a short path"},
		&cli.StringFlag{Name: "pod-manifest-path", Destination: &c.Manifests, Usage: "`FOLDER` of static pods"},
		&cli.StringFlag{Name: "pod-logs-dir", Destination: &c.PodLogs, Usage: "`FOLDER` of container logs (default: logs below --root-dir)"},
		&cli.IntFlag{Name: "max-pods", Value: 110, Destination: &c.MaxPods, Usage: "most pods on this node"},
		&cli.DurationFlag{Name: "node-lease-interval", Value: time.Second, Destination: &c.LeaseInterval, Usage: "how often the node's lease is renewed; it lasts four times as long"},

		&cli.StringFlag{Name: "container-runtime-endpoint", Value: "unix:///run/containerd/containerd.sock", Destination: &c.Endpoint, Usage: "`SOCKET` of containerd"},
		&cli.StringFlag{Name: "oci-runtime", Value: "runc", Destination: &c.OCIRuntime, Usage: "`PROGRAM` that runs containers"},
		&cli.StringFlag{Name: "cgroup-root", Destination: &c.CgroupRoot, Usage: "control `GROUP` above kubepods (default: the top)"},
		&cli.IntFlag{Name: "max-parallel-container-starts", Value: 4, Destination: &c.StartsInFlight, Usage: "containers started at the same time"},
		&cli.IntFlag{Name: "max-parallel-image-pulls", Value: 4, Destination: &c.ParallelPulls, Usage: "images pulled at the same time"},
		&cli.StringSliceFlag{Name: "registry-plain-http", Destination: &c.PlainHTTP, Usage: "`HOST:PORT` of registries spoken to without TLS"},
		&cli.StringFlag{Name: "registry-hosts-dir", Destination: &c.RegistryHosts, Usage: "`FOLDER` of HOST/hosts.toml files as containerd reads them: mirrors, authorities"},
		&cli.StringFlag{Name: "container-log-max-size", Value: "10Mi", Destination: &c.LogMaxSize, Usage: "`SIZE` at which a container's log is rotated"},
		&cli.IntFlag{Name: "container-log-max-files", Value: 5, Destination: &c.LogMaxFiles, Usage: "files kept of a container's log"},
		&cli.DurationFlag{Name: "max-container-restart-period", Value: 5 * time.Minute, Destination: &c.MaxRestartBackoff, Usage: "longest wait before a container that keeps ending is started again"},
		&cli.StringFlag{Name: "eviction-hard", Value: eviction.DefaultHard, Destination: &c.EvictionHard, Usage: "`LIST` as memory.available<1Gi: pods are ended as soon as less is left; also kept from allocatable"},
		&cli.StringFlag{Name: "eviction-soft", Destination: &c.EvictionSoft, Usage: "`LIST` as memory.available<1.5Gi: pods are ended when less was left for the grace period"},
		&cli.StringFlag{Name: "eviction-soft-grace-period", Destination: &c.EvictionGraces, Usage: "`LIST` as memory.available=1m30s: how long a soft threshold must have been crossed"},
		&cli.StringFlag{Name: "eviction-minimum-reclaim", Destination: &c.EvictionReclaim, Usage: "`LIST` as nodefs.available=2Gi: how much beyond its threshold is freed once it was crossed"},
		&cli.IntFlag{Name: "eviction-max-pod-grace-period", Destination: &c.EvictionMaxGrace, Usage: "most `SECONDS` that a pod may take to end when a soft threshold was crossed"},
		&cli.DurationFlag{Name: "eviction-pressure-transition-period", Value: 5 * time.Minute, Destination: &c.PressureLasts, Usage: "how long pressure is told after it is over"},

		&cli.StringSliceFlag{Name: "cluster-dns", Destination: &c.ClusterDNS, Usage: "`ADDRESS` of the cluster's name server"},
		&cli.StringFlag{Name: "cluster-domain", Value: "cluster.local", Destination: &c.ClusterDomain, Usage: "`DOMAIN` of the cluster"},
		&cli.StringFlag{Name: "resolv-conf", Value: "/etc/resolv.conf", Destination: &c.ResolvConf, Usage: "`FILE` with the node's name servers"},
		&cli.StringFlag{Name: "cni-conf-dir", Destination: &c.CNIConfDir, Usage: "`FOLDER` where a CNI configuration may be installed, which is then used instead of the built-in network; empty: never"},
		&cli.StringFlag{Name: "cni-bin-dir", Value: "/opt/cni/bin", Destination: &c.CNIBinDir, Usage: "`FOLDER` of CNI plugins"},

		&cli.StringFlag{Name: "address", Value: "0.0.0.0", Destination: &c.Address, Usage: "`ADDRESS` to serve on"},
		&cli.IntFlag{Name: "port", Value: 10250, Destination: &c.Port, Usage: "port to serve on"},
		&cli.StringFlag{Name: "tls-cert-file", Destination: &c.CertFile, Usage: "`FILE` with the certificate to serve with"},
		&cli.StringFlag{Name: "tls-private-key-file", Destination: &c.KeyFile, Usage: "`FILE` with its key"},
		&cli.StringFlag{Name: "client-ca-file", Destination: &c.CA, Usage: "`FILE` with the authorities of clients"},
		&cli.BoolFlag{Name: "anonymous-auth", Destination: &c.Access.Anonymous, Usage: "who shows nothing is system:anonymous instead of being refused"},
		&cli.BoolFlag{Name: "authentication-token-webhook", Value: true, Destination: &c.Access.Tokens, Usage: "ask the API server whose a bearer token is"},
		&cli.DurationFlag{Name: "authentication-token-webhook-cache-ttl", Value: 2 * time.Minute, Destination: &c.Access.TokenTTL, Usage: "how long its answer is kept"},
		&cli.StringFlag{Name: "authorization-mode", Value: access.Webhook, Destination: &c.Access.Mode, Usage: "`MODE`: Webhook asks the API server who may use this kubelet, AlwaysAllow lets in all who are known"},
		&cli.DurationFlag{Name: "authorization-webhook-cache-authorized-ttl", Value: 5 * time.Minute, Destination: &c.Access.AllowedTTL, Usage: "how long it is kept that somebody may"},
		&cli.DurationFlag{Name: "authorization-webhook-cache-unauthorized-ttl", Value: 30 * time.Second, Destination: &c.Access.RefusedTTL, Usage: "how long it is kept that somebody may not"},
	}
}

// complete checks the flags and reads what they spell.
func (c *Config) complete() error {
	for name, value := range map[string]string{"kubeconfig": c.Kubeconfig, "tls-cert-file": c.CertFile, "tls-private-key-file": c.KeyFile, "client-ca-file": c.CA} {
		if value == "" && !(c.RotateServing && strings.HasPrefix(name, "tls-")) {
			return fmt.Errorf("--%s is needed", name)
		}
	}
	if c.CertDir == "" {
		c.CertDir = filepath.Join(c.RootDir, "pki")
	}
	if err := c.Access.Check(); err != nil {
		return err
	}
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("reading the host name: %w", err)
		}
		c.NodeName = strings.ToLower(name)
	}
	if err := c.addresses(); err != nil {
		return err
	}
	if !filepath.IsAbs(c.LocalPathDir) {
		return fmt.Errorf("--local-path-dir %q is not absolute", c.LocalPathDir)
	}
	if c.MaxPods < 1 || c.LeaseInterval < 100*time.Millisecond || c.MaxRestartBackoff < time.Second {
		return errors.New("--max-pods must be 1 or more, --node-lease-interval 100ms or more, --max-container-restart-period 1s or more")
	}
	if err := c.evictions(); err != nil {
		return err
	}
	for flag, read := range map[string]struct {
		text string
		into *int64
	}{"container-log-max-size": {c.LogMaxSize, &c.logMax}} {
		q, err := resource.ParseQuantity(read.text)
		if err != nil || q.Sign() < 0 {
			return fmt.Errorf("--%s %q is no size", flag, read.text)
		}
		*read.into = q.Value()
	}
	c.labels = map[string]string{}
	for _, l := range c.Labels.Value() {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return fmt.Errorf("--node-labels %q: want KEY=VALUE", l)
		}
		c.labels[k] = v
	}
	for _, t := range c.Taints.Value() {
		kv, effect, ok := strings.Cut(t, ":")
		k, v, _ := strings.Cut(kv, "=")
		if !ok || k == "" {
			return fmt.Errorf("--register-with-taints %q: want KEY=VALUE:EFFECT", t)
		}
		c.taints = append(c.taints, corev1.Taint{Key: k, Value: v, Effect: corev1.TaintEffect(effect)})
	}
	if c.PodLogs == "" {
		c.PodLogs = filepath.Join(c.RootDir, "logs")
	}
	for _, dir := range []string{c.RootDir, c.NetnsDir, c.PodLogs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
	}
	return nil
}

// addresses reads --node-ip, or finds the address from which this machine would speak to the world; nothing is sent for that.
func (c *Config) addresses() error {
	if c.NodeIP == "" {
		conn, err := net.Dial("udp", "192.0.2.1:9")
		if err != nil {
			return errors.New("this machine has no default route: name its address with --node-ip")
		}
		defer conn.Close()
		c.nodeIPs = []netip.Addr{conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()}
		return nil
	}
	for s := range strings.SplitSeq(c.NodeIP, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("--node-ip: %w", err)
		}
		c.nodeIPs = append(c.nodeIPs, ip)
	}
	return nil
}

// The rooms' own configurations.

func (c *Config) containers() containers.Config {
	return containers.Config{Address: strings.TrimPrefix(c.Endpoint, "unix://"), StateDir: c.NetnsDir, OCIRuntime: c.OCIRuntime, StartsInFlight: c.StartsInFlight}
}

func (c *Config) images() images.Config {
	return images.Config{PlainHTTP: c.PlainHTTP.Value(), HostsDir: c.RegistryHosts, Parallel: c.ParallelPulls}
}

func (c *Config) network() network.Config {
	return network.Config{NodeIP: c.nodeIPs[0], CNIConfDir: c.CNIConfDir, CNIBinDirs: []string{c.CNIBinDir}, CNICacheDir: filepath.Join(c.RootDir, "cni")}
}

func (c *Config) groups() cgroups.Config { return cgroups.Config{Root: c.CgroupRoot} }

func (c *Config) logs() logs.Limits {
	return logs.Limits{MaxSize: c.logMax, MaxFiles: c.LogMaxFiles}
}

func (c *Config) source() source.Config {
	return source.Config{Node: c.NodeName, Folder: c.Manifests}
}

func (c *Config) node() node.Config {
	return node.Config{Name: c.NodeName, IPs: c.nodeIPs, Labels: c.labels, Taints: c.taints, Root: c.RootDir, MaxPods: c.MaxPods, Port: c.Port,
		LeaseInterval: c.LeaseInterval, ReservedMemory: c.evictionMemory}
}

func (c *Config) eviction() eviction.Config {
	return eviction.Config{Node: c.NodeName, Root: c.RootDir, Logs: c.PodLogs, Thresholds: c.thresholds,
		MaxGrace: time.Duration(c.EvictionMaxGrace) * time.Second, PressureLasts: c.PressureLasts}
}

func (c *Config) pods() pods.Config {
	return pods.Config{Node: c.NodeName, NodeIPs: c.nodeIPs, Root: c.RootDir, Logs: c.PodLogs,
		DNS:     pods.DNS{Cluster: c.ClusterDNS.Value(), Domain: c.ClusterDomain, NodeFile: c.ResolvConf},
		Backoff: pods.Backoff{First: time.Second, Max: c.MaxRestartBackoff, Calm: 10 * time.Minute}}
}

func (c *Config) server() server.Config {
	cfg := server.Config{Address: c.Address, Port: c.Port, CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCAFile: c.CA, Logs: c.PodLogs}
	if c.RotateServing {
		cfg.CertFile, cfg.KeyFile, cfg.Await = c.certificates().ServingFile(), c.certificates().ServingFile(), true
	}
	return cfg
}

func (c *Config) certificates() certificates.Config {
	return certificates.Config{Node: c.NodeName, IPs: c.nodeIPs, Dir: c.CertDir, Kubeconfig: c.Kubeconfig, BootstrapKubeconfig: c.Bootstrap, Rotate: c.Rotate}
}

func (c *Config) access() access.Config {
	a := c.Access
	a.Node = c.NodeName
	return a
}
// evictions reads the flags about pods that are ended for want of something.
func (c *Config) evictions() (err error) {
	if c.thresholds, err = eviction.Thresholds(c.EvictionHard, c.EvictionSoft, c.EvictionGraces, c.EvictionReclaim); err != nil {
		return fmt.Errorf("reading the eviction flags: %w", err)
	}
	if c.EvictionMaxGrace < 0 || c.PressureLasts < 0 {
		return errors.New("--eviction-max-pod-grace-period and --eviction-pressure-transition-period must be 0 or more")
	}
	_, all, err := stats.FreeMemory()
	c.evictionMemory = eviction.MemoryReserved(c.thresholds, all)
	return err
}

