package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/eviction"
	"pilothouse.dev/kubelet/node"
	"pilothouse.dev/kubelet/pods"
	"pilothouse.dev/kubelet/server"
	"pilothouse.dev/kubelet/shutdown"
	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/kubelet/stats"
)

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
	var err error
	if c.tls, err = server.ReadTLS(c.TLSMin, c.Ciphers.Value(), c.Curves.Value()); err != nil {
		return err
	}
	if err := c.machine(); err != nil {
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
	if err := c.images(nil).Check(); err != nil {
		return err
	}
	if err := c.imageGC().Check(); err != nil {
		return err
	}
	groups, err := shutdown.Groups(c.ShutdownGrace, c.ShutdownCritical, c.ShutdownByPriority)
	if err != nil {
		return fmt.Errorf("reading the shutdown flags: %w", err)
	}
	c.shutdownGroups = groups
	header, err := source.Header(c.ManifestHeader)
	if err != nil {
		return fmt.Errorf("--manifest-url-header: %w", err)
	}
	c.manifestHeader = header
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
	c.handlers = map[string]string{}
	for _, h := range c.RuntimeHandlers.Value() {
		name, program, ok := strings.Cut(h, "=")
		if !ok || name == "" || program == "" {
			return fmt.Errorf("--runtime-handlers %q: want NAME=PROGRAM", h)
		}
		c.handlers[name] = program
	}
	if err := pods.CheckSysctls(c.UnsafeSysctls.Value()); err != nil {
		return fmt.Errorf("--allowed-unsafe-sysctls: %w", err)
	}
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
	return c.folders()
}

// folders makes what all rooms use. Volumes hold secrets, and programs that a container's root may have made to run as the node's: nobody but root
// may come near, as it is with Kubernetes.
func (c *Config) folders() error {
	if c.PodLogs == "" {
		c.PodLogs = filepath.Join(c.RootDir, "logs")
	}
	for _, dir := range []string{c.RootDir, c.NetnsDir, c.PodLogs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
	}
	pods := filepath.Join(c.RootDir, "pods")
	if err := errors.Join(os.MkdirAll(pods, 0o750), os.Chmod(pods, 0o750)); err != nil {
		return fmt.Errorf("making the folder of pods: %w", err)
	}
	return nil
}

// machine checks what the flags demand of the machine.
func (c *Config) machine() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); c.FailV1 && err == nil && st.Type != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("--fail-cgroupv1: this machine has control groups v1")
	}
	if swaps, err := os.ReadFile("/proc/swaps"); c.FailSwap && err == nil && strings.Count(string(swaps), "\n") > 1 {
		return errors.New("--fail-swap-on: running with swap on is not supported, please disable swap or set --fail-swap-on to false")
	}
	if c.PodsPerCore < 0 || c.StreamIdle < 0 || c.OOMScore < -1000 || c.OOMScore > 1000 {
		return errors.New("--pods-per-core and --streaming-connection-idle-timeout must be 0 or more, --oom-score-adj -1000 to 1000")
	}
	if most := c.PodsPerCore * goruntime.NumCPU(); most > 0 && most < c.MaxPods {
		c.MaxPods = most
	}
	return nil
}

// guard has the kernel end others before the kubelet when memory runs out, where the kubelet may ask for that.
func (c *Config) guard(log *zap.Logger) {
	if c.OOMScore == 0 {
		return
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(c.OOMScore)), 0); err != nil {
		log.Warn("setting the kubelet's OOM score", zap.Int("score", c.OOMScore), zap.Error(err))
	}
}

// addresses reads --node-ip, or finds the address from which this machine would speak to the world, of IPv4 if it has one.
func (c *Config) addresses() (err error) {
	if c.NodeIP == "" {
		if c.nodeIPs, err = ownAddress(netip.IPv4Unspecified()); err != nil {
			c.nodeIPs, err = ownAddress(netip.IPv6Unspecified())
		}
		return err
	}
	if c.nodeIPs, err = nodeIPs(c.NodeIP); err != nil {
		return fmt.Errorf("bad --node-ip %q: %w", c.NodeIP, err)
	}
	if c.nodeIPs[0].IsUnspecified() {
		c.nodeIPs, err = ownAddress(c.nodeIPs[0])
	}
	return err
}

// nodeIPs are the addresses of a node as a flag gives them: one, or one of each family, the first of the family that counts first. An unspecified one
// alone stands for the machine's own of its family.
func nodeIPs(list string) (ips []netip.Addr, err error) {
	for s := range strings.SplitSeq(list, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil || ip.Zone() != "" {
			return nil, fmt.Errorf("could not parse %q", strings.TrimSpace(s))
		}
		ip = ip.Unmap()
		switch {
		case ip.IsLoopback():
			return nil, errors.New("nodeIP can't be loopback address")
		case ip.IsMulticast():
			return nil, errors.New("nodeIP can't be a multicast address")
		case ip.IsLinkLocalUnicast():
			return nil, errors.New("nodeIP can't be a link-local unicast address")
		}
		ips = append(ips, ip)
	}
	if len(ips) > 2 || len(ips) == 2 && ips[0].Is4() == ips[1].Is4() {
		return nil, errors.New("must contain either a single IP or a dual-stack pair of IPs")
	}
	if len(ips) == 2 && (ips[0].IsUnspecified() || ips[1].IsUnspecified()) {
		return nil, errors.New("dual-stack node IP cannot include '0.0.0.0' or '::'")
	}
	return ips, nil
}

// ownAddress is the address of a family from which this machine would speak to the world; nothing is sent to find it.
func ownAddress(family netip.Addr) ([]netip.Addr, error) {
	world := "192.0.2.1" // addresses of nobody, for documents
	if family.Is6() {
		world = "2001:db8::1"
	}
	conn, err := net.Dial("udp", net.JoinHostPort(world, "9"))
	if err != nil {
		return nil, errors.New("this machine has no default route: name its address with --node-ip")
	}
	defer conn.Close()
	return []netip.Addr{conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()}, nil
}

// evictions reads the flags about pods that are ended for want of something.
func (c *Config) evictions() (err error) {
	if c.thresholds, err = eviction.Thresholds(c.EvictionHard, c.EvictionSoft, c.EvictionGraces, c.EvictionReclaim); err != nil {
		return fmt.Errorf("reading the eviction flags: %w", err)
	}
	if c.EvictionMaxGrace < 0 || c.PressureLasts < 0 {
		return errors.New("--eviction-max-pod-grace-period and --eviction-pressure-transition-period must be 0 or more")
	}
	if err := c.amounts(); err != nil {
		return err
	}
	_, all, err := stats.FreeMemory()
	c.evictionMemory = eviction.MemoryReserved(c.thresholds, all)
	return err
}

// amounts reads the flags about what pods may use.
func (c *Config) amounts() (err error) {
	if c.reserve, err = node.ReadReserve(c.KubeReserved, c.SystemReserved, c.ReservedCPUs); err != nil {
		return err
	}
	if c.QuotaPeriod < time.Millisecond || c.QuotaPeriod > time.Second {
		return fmt.Errorf("--cpu-cfs-quota-period %s must be 1ms to 1s", c.QuotaPeriod)
	}
	if c.MemoryThrottle < 0 || c.MemoryThrottle > 1 || !slices.Contains([]string{"", "None", "TieredReservation"}, c.MemoryProtection) {
		return errors.New("--memory-throttling-factor must be 0 to 1, --memory-reservation-policy None or TieredReservation")
	}
	for _, what := range c.Enforced.Value() {
		switch what {
		case "pods":
			left, err := c.reserve.Left()
			if err != nil {
				return err
			}
			c.left = cgroups.Limits(left.CPU, 0, left.Memory)
			c.left.PIDs = left.PIDs
		case "none", "":
		default:
			return fmt.Errorf("--enforce-node-allocatable %q: only pods are held to what is allocatable", what)
		}
	}
	c.abilities, err = cgroups.New(cgroups.Config{}, zap.NewNop()).Abilities()
	return err
}

func (c *Config) sizing() pods.Sizing {
	return pods.Sizing{NoQuota: !c.Quota, Period: uint64(c.QuotaPeriod / time.Microsecond), PodPIDs: c.PodPIDs, V2: c.abilities.V2, HugePages: c.abilities.HugePages,
		Throttle: c.MemoryThrottle, Protect: c.MemoryProtection == "TieredReservation"}
}
