package main

import (
	"path/filepath"
	"strings"
	"time"

	"pilothouse.dev/kubelet/access"
	"pilothouse.dev/kubelet/certificates"
	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/cpus"
	"pilothouse.dev/kubelet/credentials"
	"pilothouse.dev/kubelet/eviction"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/kubelet/node"
	"pilothouse.dev/kubelet/pods"
	"pilothouse.dev/kubelet/server"
	"pilothouse.dev/kubelet/shutdown"
	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/kubelet/stats"
)

// The rooms' own configurations.

func (c *Config) containers() containers.Config {
	return containers.Config{Address: strings.TrimPrefix(c.Endpoint, "unix://"), StateDir: c.NetnsDir, OCIRuntime: c.OCIRuntime, Handlers: c.handlers, StartsInFlight: c.StartsInFlight}
}

func (c *Config) images(keys images.Keyring) images.Config {
	cfg := images.Config{PlainHTTP: c.PlainHTTP.Value(), HostsDir: c.RegistryHosts, Parallel: c.ParallelPulls, Progress: c.PullProgress,
		BackOff: c.PullBackOff, MaxBackOff: c.MaxPullBackOff, Verify: images.VerifyPolicy(c.PullVerify), Allowlist: c.PullAllowlist.Value(),
		Pinned: c.PinnedImages.Value(), Keyring: keys}
	if c.SerializePulls {
		cfg.Parallel = 1
	}
	return cfg
}

func (c *Config) credentials() credentials.Config {
	return credentials.Config{Files: credentials.NodeFiles(c.RootDir), PluginConfig: c.ProviderConfig, PluginDir: c.ProviderDir}
}

func (c *Config) imageGC() images.GCConfig {
	return images.GCConfig{Node: c.NodeName, High: c.ImageGCHigh, Low: c.ImageGCLow, MinAge: c.ImageMinAge, MaxAge: c.ImageMaxAge}
}

func (c *Config) network(ports network.HostPorts) network.Config {
	return network.Config{HostPorts: ports, NodeIP: c.nodeIPs[0], NodeIPs: c.nodeIPs, CNIConfDir: c.CNIConfDir, CNIBinDirs: strings.Split(c.CNIBinDir, ","), CNICacheDir: filepath.Join(c.RootDir, "cni")}
}

func (c *Config) groups() cgroups.Config { return cgroups.Config{Root: c.CgroupRoot, Pods: c.left} }

// enforced says why the limits of all pods together are not in force yet; it is nil where there are none.
func (c *Config) enforced(groups *cgroups.Tree) func() error {
	if c.left.CPUShares == 0 {
		return nil
	}
	return groups.Bound
}

func (c *Config) logs() logs.Limits {
	return logs.Limits{MaxSize: c.logMax, MaxFiles: c.LogMaxFiles}
}

func (c *Config) source() source.Config {
	return source.Config{Node: c.NodeName, Path: c.Manifests, Check: c.ManifestCheck, URL: c.ManifestURL, Header: c.manifestHeader, URLCheck: c.URLCheck}
}

func (c *Config) node() node.Config {
	return node.Config{Name: c.NodeName, IPs: c.nodeIPs, Labels: c.labels, Taints: c.taints, Root: c.RootDir, MaxPods: c.MaxPods, MaxImages: c.MaxImages, Port: c.Port,
		LeaseInterval: c.LeaseInterval, Reserve: c.reserve, ReservedMemory: c.evictionMemory,
		ReservedStorage: func(all uint64) int64 { return eviction.Reserved(c.thresholds, "nodefs.available", all) }, HugePages: cgroups.HugePagesOrNone}
}

func (c *Config) eviction() eviction.Config {
	return eviction.Config{Node: c.NodeName, Root: c.RootDir, Logs: c.PodLogs, Thresholds: c.thresholds,
		MaxGrace: time.Duration(c.EvictionMaxGrace) * time.Second, PressureLasts: c.PressureLasts}
}

func (c *Config) shutdown() shutdown.Config {
	return shutdown.Config{Node: c.NodeName, Groups: c.shutdownGroups}
}

func (c *Config) pods() pods.Config {
	return pods.Config{Node: c.NodeName, NodeIPs: c.nodeIPs, Root: c.RootDir, Logs: c.PodLogs,
		DNS:            pods.DNS{Cluster: c.ClusterDNS.Value(), Domain: c.ClusterDomain, NodeFile: c.ResolvConf},
		Sizing:         c.sizing(),
		ExclusiveCPUs:  c.Processors.Policy == cpus.Static,
		SeccompDefault: c.SeccompDefault, SingleOOMKill: c.SingleOOMKill, UnsafeSysctls: c.UnsafeSysctls.Value(), AppArmor: containers.AppArmor(),
		Drain:   c.Drain,
		Backoff: pods.Backoff{First: time.Second, Max: c.MaxRestartBackoff, Calm: 10 * time.Minute}}
}

func (c *Config) stats() stats.Config {
	return stats.Config{Node: c.NodeName, Root: c.RootDir, Logs: c.PodLogs, Keep: c.VolumeStats}
}

func (c *Config) server() server.Config {
	cfg := server.Config{Address: c.Address, Port: c.Port, CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCAFile: c.CA, Logs: c.PodLogs, TLS: c.tls,
		HealthzAddress: c.HealthzAddress, HealthzPort: c.HealthzPort, Debugging: c.Debugging, Profiling: c.Profiling, NodeLogs: c.NodeLogs, Contention: c.Contention}
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

func (c *Config) cpus() cpus.Config {
	return cpus.Config{Policy: c.Processors.Policy, Options: c.Processors.Options.Value(), Reserved: c.ReservedCPUs, ReservedMilli: c.reserve.CPU, Reconcile: c.Processors.Reconcile}
}
