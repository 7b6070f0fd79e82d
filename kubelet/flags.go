package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/access"
	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/configuration"
	"pilothouse.dev/kubelet/cpus"
	"pilothouse.dev/kubelet/eviction"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/node"
	"pilothouse.dev/kubelet/server"
	"pilothouse.dev/kubelet/shutdown"
	"pilothouse.dev/pkg/localvolume"
)

// Config is what the flags say.
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
	ManifestURL    string
	ManifestHeader string // «key:value», a comma between two
	ManifestCheck  time.Duration
	URLCheck       time.Duration
	PodLogs        string
	Drain          time.Duration
	MaxPods        int
	LeaseInterval  time.Duration

	Endpoint          string
	OCIRuntime        string
	RuntimeHandlers   cli.StringSlice
	SeccompDefault    bool
	SingleOOMKill     bool
	UnsafeSysctls     cli.StringSlice
	CgroupRoot        string
	KubeReserved      string
	SystemReserved    string
	ReservedCPUs      string // a list as 0-1,4
	Processors        Processors
	Enforced          cli.StringSlice
	PodPIDs           int64
	Quota             bool
	QuotaPeriod       time.Duration
	MemoryThrottle    float64
	MemoryProtection  string
	StartsInFlight    int
	ParallelPulls     int
	PlainHTTP         cli.StringSlice
	RegistryHosts     string
	SerializePulls    bool
	PullProgress      time.Duration
	PullBackOff       time.Duration
	MaxPullBackOff    time.Duration
	PullVerify        string
	PullAllowlist     cli.StringSlice
	PinnedImages      cli.StringSlice
	ProviderConfig    string
	ProviderDir       string
	MaxImages         int
	ImageGCHigh       int
	ImageGCLow        int
	ImageMinAge       time.Duration
	ImageMaxAge       time.Duration
	LogMaxSize        string
	LogMaxFiles       int
	MaxRestartBackoff time.Duration
	EvictionHard      string
	EvictionSoft      string
	EvictionGraces    string
	EvictionReclaim   string
	EvictionMaxGrace  int
	PressureLasts     time.Duration

	ShutdownGrace, ShutdownCritical time.Duration
	ShutdownByPriority              string // JSON, as shutdownGracePeriodByPodPriority of KubeletConfiguration

	ClusterDNS    cli.StringSlice
	ClusterDomain string
	ResolvConf    string
	CNIConfDir    string
	CNIBinDir     string

	Address               string
	Port                  int
	CertFile, KeyFile, CA string
	Access                access.Config // completed by access
	TLSMin                string
	Ciphers, Curves       cli.StringSlice
	HealthzAddress        string
	HealthzPort           int
	StreamIdle            time.Duration
	Debugging             bool // logs, exec, attach, portForward and whatever else reaches into containers
	Profiling, NodeLogs   bool // /debug/pprof and /logs/
	Contention            bool
	VolumeStats           time.Duration
	OOMScore              int
	PodsPerCore           int
	FailSwap, FailV1      bool
	File, Dir             string // of KubeletConfiguration

	// Made of the above by complete.
	nodeIPs        []netip.Addr
	labels         map[string]string
	handlers       map[string]string // OCI runtimes by name
	taints         []corev1.Taint
	logMax         int64
	thresholds     []eviction.Threshold
	manifestHeader http.Header
	shutdownGroups []shutdown.Group
	reserve        node.Reserve
	left           cgroups.Resources // of the machine for all pods
	abilities      cgroups.Abilities
	evictionMemory int64 // what the hard threshold of memory keeps from pods
	tls            server.TLS
	others         map[string]*string // flags that are only known, as given; made by flags
}

// flags are those that this daemon obeys, and those of upstream's kubelet that it only knows (configuration.Others).
func (c *Config) flags() []cli.Flag {
	own := c.own()
	have := map[string]bool{}
	for _, f := range own {
		have[f.Names()[0]] = true
	}
	if c.others == nil {
		c.others = map[string]*string{}
	}
	for _, k := range configuration.Others(func(name string) bool { return have[name] }) {
		given := new(string)
		c.others[k.Name] = given
		check := func(text string) error {
			*given = text
			return k.Check(text)
		}
		if k.Bool {
			own = append(own, &cli.BoolFlag{Name: k.Name, Usage: k.Why, Hidden: true, Action: func(_ *cli.Context, b bool) error { return check(strconv.FormatBool(b)) }})
		} else {
			own = append(own, &cli.StringFlag{Name: k.Name, Usage: k.Why, Hidden: true, Action: func(_ *cli.Context, text string) error { return check(text) }})
		}
	}
	return own
}

// fromFiles sets the flags that the files of --config and --config-dir tell and the command line does not.
func fromFiles(ctx *cli.Context, _ string) error {
	files, err := configuration.Read(ctx.String("config"), ctx.String("config-dir"))
	if err != nil {
		return err
	}
	given := map[string]bool{} // on the command line
	for _, name := range ctx.LocalFlagNames() {
		given[name] = true
	}
	for _, s := range files.Settings() {
		if given[s.Flag] {
			continue
		}
		if err := ctx.Set(s.Flag, s.Text); err != nil {
			return fmt.Errorf("%s: %s: Invalid value: %q: %w", s.Where, s.Field, s.Text, err)
		}
	}
	return nil
}

// inForce says what a flag of this daemon was set to, whoever set it; ok only for flags that there are.
func (c *Config) inForce() func(name string) (text string, ok bool) {
	all := map[string]string{}
	for _, f := range c.own() {
		switch f := f.(type) {
		case *cli.StringFlag:
			all[f.Name] = *f.Destination
		case *cli.StringSliceFlag:
			all[f.Name] = strings.Join(f.Destination.Value(), ",")
		case *cli.BoolFlag:
			all[f.Name] = strconv.FormatBool(*f.Destination)
		case *cli.IntFlag:
			all[f.Name] = strconv.Itoa(*f.Destination)
		case *cli.Int64Flag:
			all[f.Name] = strconv.FormatInt(*f.Destination, 10)
		case *cli.Float64Flag:
			all[f.Name] = strconv.FormatFloat(*f.Destination, 'g', -1, 64)
		case *cli.DurationFlag:
			all[f.Name] = f.Destination.String()
		}
	}
	for name, given := range c.others {
		if *given != "" {
			all[name] = *given
		}
	}
	return func(name string) (string, bool) {
		text, ok := all[name]
		return text, ok
	}
}

// configz is the configuration in force.
func configz(c *Config) map[string]any { return configuration.Configz(c.inForce()) }

// own are the flags that this daemon obeys.
func (c *Config) own() []cli.Flag {
	return slices.Concat(c.Processors.flags(), []cli.Flag{
		&cli.StringFlag{Name: "config", Destination: &c.File, Action: fromFiles, Usage: "KubeletConfiguration `FILE`; a flag that is given wins over it"},
		&cli.StringFlag{Name: "config-dir", Destination: &c.Dir, Action: func(ctx *cli.Context, dir string) error {
			if ctx.IsSet("config") {
				return nil // read already, with the file
			}
			return fromFiles(ctx, dir)
		}, Usage: "`FOLDER` of more such files, named *.conf, each over those before"},
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
		&cli.StringFlag{Name: "pod-manifest-path", Destination: &c.Manifests, Usage: "`FOLDER` of static pods, a file each; or one such file"},
		&cli.DurationFlag{Name: "file-check-frequency", Value: 20 * time.Second, Destination: &c.ManifestCheck, Usage: "how often it is read at least; changes are heard at once"},
		&cli.StringFlag{Name: "manifest-url", Destination: &c.ManifestURL, Usage: "`ADDRESS` of a static pod, or of a list of them"},
		&cli.StringFlag{Name: "manifest-url-header", Destination: &c.ManifestHeader, Usage: "`HEADERS` to ask it with: key:value,key:value"},
		&cli.DurationFlag{Name: "http-check-frequency", Value: 20 * time.Second, Destination: &c.URLCheck, Usage: "how often it is asked"},
		&cli.DurationFlag{Name: "drain-delay", Value: 500 * time.Millisecond, Destination: &c.Drain, Usage: "how long a ready pod that a service selects goes on before it is told to end, until no new connections come to it; part of its grace period; 0: none"},
		&cli.StringFlag{Name: "pod-logs-dir", Destination: &c.PodLogs, Usage: "`FOLDER` of container logs (default: logs below --root-dir)"},
		&cli.IntFlag{Name: "max-pods", Value: 110, Destination: &c.MaxPods, Usage: "most pods on this node"},
		&cli.DurationFlag{Name: "node-lease-interval", Value: time.Second, Destination: &c.LeaseInterval, Usage: "how often the node's lease is renewed; it lasts four times as long"},

		&cli.StringFlag{Name: "container-runtime-endpoint", Value: "unix:///run/containerd/containerd.sock", Destination: &c.Endpoint, Usage: "`SOCKET` of containerd"},
		&cli.StringFlag{Name: "oci-runtime", Value: "runc", Destination: &c.OCIRuntime, Usage: "`PROGRAM` that runs containers"},
		&cli.StringSliceFlag{Name: "runtime-handlers", Destination: &c.RuntimeHandlers, Usage: "`NAME=PROGRAM` of other programs that run containers, for pods whose RuntimeClass has the handler"},
		&cli.BoolFlag{Name: "seccomp-default", Destination: &c.SeccompDefault, Usage: "containers that name no seccomp profile get the runtime's instead of none"},
		&cli.BoolFlag{Name: "single-process-oom-kill", Destination: &c.SingleOOMKill, Usage: "where a container's memory runs out one process is killed, not all of them (on cgroup v1 always so)"},
		&cli.StringSliceFlag{Name: "allowed-unsafe-sysctls", Destination: &c.UnsafeSysctls, Usage: "`SYSCTL` that pods may set beside the safe ones; a star at its end stands for the rest of a name"},
		&cli.StringFlag{Name: "cgroup-root", Destination: &c.CgroupRoot, Usage: "control `GROUP` above kubepods (default: the top)"},
		&cli.StringFlag{Name: "kube-reserved", Destination: &c.KubeReserved, Usage: "`LIST` as cpu=200m,memory=500Mi,ephemeral-storage=1Gi,pid=1000 of what pods cannot have because the daemons of Kubernetes need it"},
		&cli.StringFlag{Name: "system-reserved", Destination: &c.SystemReserved, Usage: "`LIST` of what other daemons need"},
		&cli.StringFlag{Name: "reserved-cpus", Destination: &c.ReservedCPUs, Usage: "`LIST` of processors, as 0-1,4, that are kept for daemons; replaces the cpu of both"},
		&cli.StringSliceFlag{Name: "enforce-node-allocatable", Value: cli.NewStringSlice("pods"), Destination: &c.Enforced, Usage: "pods: their control group as a whole gets no more than is not reserved; none"},
		&cli.Int64Flag{Name: "pod-max-pids", Value: -1, Destination: &c.PodPIDs, Usage: "most processes and threads of a pod; -1: no limit"},
		&cli.BoolFlag{Name: "cpu-cfs-quota", Value: true, Destination: &c.Quota, Usage: "enforce CPU limits"},
		&cli.DurationFlag{Name: "cpu-cfs-quota-period", Value: 100 * time.Millisecond, Destination: &c.QuotaPeriod, Usage: "time over which CPU limits are counted, 1ms to 1s"},
		&cli.Float64Flag{Name: "memory-throttling-factor", Destination: &c.MemoryThrottle, Usage: "`PART` of a container's memory between request and limit from where it is slowed down (memory.high), on control groups v2; 0: never"},
		&cli.StringFlag{Name: "memory-reservation-policy", Value: "None", Destination: &c.MemoryProtection, Usage: "None, or TieredReservation: requested memory is kept for pods (memory.min of guaranteed, memory.low of burstable ones), on control groups v2"},
		&cli.IntFlag{Name: "max-parallel-container-starts", Value: 4, Destination: &c.StartsInFlight, Usage: "containers started at the same time"},
		&cli.IntFlag{Name: "max-parallel-image-pulls", Value: 4, Destination: &c.ParallelPulls, Usage: "images pulled at the same time"},
		&cli.BoolFlag{Name: "serialize-image-pulls", Destination: &c.SerializePulls, Usage: "pull one image after the other, whatever --max-parallel-image-pulls says"},
		&cli.DurationFlag{Name: "image-pull-progress-deadline", Value: time.Minute, Destination: &c.PullProgress, Usage: "how long a pull may wait for bytes before it is given up"},
		&cli.DurationFlag{Name: "image-pull-back-off", Value: 10 * time.Second, Destination: &c.PullBackOff, Usage: "first wait after a pull that failed; it doubles each time"},
		&cli.DurationFlag{Name: "max-image-pull-back-off", Value: 5 * time.Minute, Destination: &c.MaxPullBackOff, Usage: "longest wait after a pull that failed"},
		&cli.StringFlag{Name: "image-pull-credentials-verification-policy", Value: string(images.NeverVerifyPreloaded), Destination: &c.PullVerify, Usage: "`POLICY`: which images that are here are given only to pods whose credentials open them: NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify"},
		&cli.StringSliceFlag{Name: "preloaded-images-verification-allowlist", Destination: &c.PullAllowlist, Usage: "`IMAGE` that NeverVerifyAllowlistedImages gives to all, without tag; with /* at its end all below"},
		&cli.StringSliceFlag{Name: "pinned-images", Destination: &c.PinnedImages, Usage: "`IMAGE` that is never removed"},
		&cli.StringFlag{Name: "image-credential-provider-config", Destination: &c.ProviderConfig, Usage: "`FILE` or folder with the configuration of credential provider plugins"},
		&cli.StringFlag{Name: "image-credential-provider-bin-dir", Destination: &c.ProviderDir, Usage: "`FOLDER` of their programs"},
		&cli.IntFlag{Name: "node-status-max-images", Value: 50, Destination: &c.MaxImages, Usage: "images that the node's status names, the largest ones; -1: all"},
		&cli.IntFlag{Name: "image-gc-high-threshold", Value: 85, Destination: &c.ImageGCHigh, Usage: "percent of the disk in use from which on unused images are removed; 100: never"},
		&cli.IntFlag{Name: "image-gc-low-threshold", Value: 80, Destination: &c.ImageGCLow, Usage: "percent of the disk in use at which that ends"},
		&cli.DurationFlag{Name: "minimum-image-ttl-duration", Value: 2 * time.Minute, Destination: &c.ImageMinAge, Usage: "how long an image stays at least"},
		&cli.DurationFlag{Name: "maximum-image-gc-age", Aliases: []string{"image-maximum-gc-age"}, Destination: &c.ImageMaxAge, Usage: "how long an image may be unused; 0: as long as there is room"},
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
		&cli.DurationFlag{Name: "shutdown-grace-period", Destination: &c.ShutdownGrace, Usage: "how long the machine's shutdown waits for pods to end; 0: not at all"},
		&cli.DurationFlag{Name: "shutdown-grace-period-critical-pods", Destination: &c.ShutdownCritical, Usage: "the part of it that is for critical pods, which end last"},
		&cli.StringFlag{Name: "shutdown-grace-period-by-pod-priority", Destination: &c.ShutdownByPriority, Usage: "`LIST` in JSON of priority and shutdownGracePeriodSeconds instead of these two"},

		&cli.StringSliceFlag{Name: "cluster-dns", Destination: &c.ClusterDNS, Usage: "`ADDRESS` of the cluster's name server"},
		&cli.StringFlag{Name: "cluster-domain", Value: "cluster.local", Destination: &c.ClusterDomain, Usage: "`DOMAIN` of the cluster"},
		&cli.StringFlag{Name: "resolv-conf", Value: "/etc/resolv.conf", Destination: &c.ResolvConf, Usage: "`FILE` with the node's name servers"},
		&cli.StringFlag{Name: "cni-conf-dir", Destination: &c.CNIConfDir, Usage: "`FOLDER` where a CNI configuration may be installed, which is then used instead of the built-in network; empty: never"},
		&cli.StringFlag{Name: "cni-bin-dir", Value: "/opt/cni/bin", Destination: &c.CNIBinDir, Usage: "`FOLDERS` of CNI plugins, with commas between; the first that has one counts"},

		&cli.StringFlag{Name: "address", Value: "0.0.0.0", Destination: &c.Address, Usage: "`ADDRESS` to serve on"},
		&cli.IntFlag{Name: "port", Value: 10250, Destination: &c.Port, Usage: "port to serve on"},
		&cli.StringFlag{Name: "tls-cert-file", Destination: &c.CertFile, Usage: "`FILE` with the certificate to serve with"},
		&cli.StringFlag{Name: "tls-private-key-file", Destination: &c.KeyFile, Usage: "`FILE` with its key"},
		&cli.StringFlag{Name: "client-ca-file", Destination: &c.CA, Usage: "`FILE` with the authorities of clients"},
		&cli.StringFlag{Name: "tls-min-version", Destination: &c.TLSMin, Usage: "`VERSION` of TLS that clients must speak at least: VersionTLS12 (the default) or VersionTLS13"},
		&cli.StringSliceFlag{Name: "tls-cipher-suites", Destination: &c.Ciphers, Usage: "`SUITES` of TLS 1.2 to serve with (default: Go's)"},
		&cli.StringSliceFlag{Name: "tls-curve-preferences", Destination: &c.Curves, Usage: "`NUMBERS` of the key exchanges to serve with (default: Go's)"},
		&cli.StringFlag{Name: "healthz-bind-address", Value: "127.0.0.1", Destination: &c.HealthzAddress, Usage: "`ADDRESS` of /healthz for this machine, without TLS"},
		&cli.IntFlag{Name: "healthz-port", Value: 10248, Destination: &c.HealthzPort, Usage: "port of it; 0: none"},
		&cli.DurationFlag{Name: "streaming-connection-idle-timeout", Value: 4 * time.Hour, Destination: &c.StreamIdle, Usage: "how long exec, attach and port-forward may be silent; 0: for ever"},
		&cli.BoolFlag{Name: "enable-debugging-handlers", Value: true, Destination: &c.Debugging, Usage: "serve logs, exec, attach and port-forward"},
		&cli.BoolFlag{Name: "enable-profiling-handler", Value: true, Destination: &c.Profiling, Usage: "serve /debug/pprof"},
		&cli.BoolFlag{Name: "enable-system-log-handler", Value: true, Destination: &c.NodeLogs, Usage: "serve the files of /var/log at /logs/"},
		&cli.BoolFlag{Name: "contention-profiling", Destination: &c.Contention, Usage: "profile waiting for locks"},
		&cli.DurationFlag{Name: "volume-stats-agg-period", Value: time.Minute, Destination: &c.VolumeStats, Usage: "how long it is kept what volumes and writable layers take"},
		&cli.IntFlag{Name: "oom-score-adj", Value: -999, Destination: &c.OOMScore, Usage: "the kubelet's own OOM score, where it may lower it"},
		&cli.IntFlag{Name: "pods-per-core", Destination: &c.PodsPerCore, Usage: "most pods a processor, if that is less than --max-pods; 0: no such limit"},
		&cli.BoolFlag{Name: "fail-swap-on", Destination: &c.FailSwap, Usage: "do not run on a machine with swap"},
		&cli.BoolFlag{Name: "fail-cgroupv1", Destination: &c.FailV1, Usage: "do not run on a machine with control groups v1"},
		&cli.BoolFlag{Name: "anonymous-auth", Destination: &c.Access.Anonymous, Usage: "who shows nothing is system:anonymous instead of being refused"},
		&cli.BoolFlag{Name: "authentication-token-webhook", Value: true, Destination: &c.Access.Tokens, Usage: "ask the API server whose a bearer token is"},
		&cli.DurationFlag{Name: "authentication-token-webhook-cache-ttl", Value: 2 * time.Minute, Destination: &c.Access.TokenTTL, Usage: "how long its answer is kept"},
		&cli.StringFlag{Name: "authorization-mode", Value: access.Webhook, Destination: &c.Access.Mode, Usage: "`MODE`: Webhook asks the API server who may use this kubelet, AlwaysAllow lets in all who are known"},
		&cli.DurationFlag{Name: "authorization-webhook-cache-authorized-ttl", Value: 5 * time.Minute, Destination: &c.Access.AllowedTTL, Usage: "how long it is kept that somebody may"},
		&cli.DurationFlag{Name: "authorization-webhook-cache-unauthorized-ttl", Value: 30 * time.Second, Destination: &c.Access.RefusedTTL, Usage: "how long it is kept that somebody may not"},
	})
}

// Processors is who gets processors alone.
type Processors struct {
	Policy    string
	Options   cli.StringSlice // KEY=VALUE
	Reconcile time.Duration
}

func (p *Processors) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cpu-manager-policy", Value: cpus.None, Destination: &p.Policy, Usage: "none, or static: containers of guaranteed pods that ask for whole processors get them alone"},
		&cli.StringSliceFlag{Name: "cpu-manager-policy-options", Destination: &p.Options, Usage: "`KEY=VALUE` of the static policy: full-pcpus-only, strict-cpu-reservation"},
		&cli.DurationFlag{Name: "cpu-manager-reconcile-period", Value: 10 * time.Second, Destination: &p.Reconcile, Usage: "how long after a change running containers are looked at once more"},
	}
}
