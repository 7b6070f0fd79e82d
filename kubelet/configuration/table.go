package configuration

import (
	"strconv"
	"strings"
	"time"
)

// field is one line of the table: a field of KubeletConfiguration and what becomes of it.
type field struct {
	kind kind
	// flag is upstream's name of the flag that says the same, or ours where upstream has none; empty: no flag says it. If this daemon has the flag, it
	// obeys; else both flag and field are known and have no effect.
	flag string
	// rule refuses what this kubelet does not do in a way that matters; nil: nothing is refused.
	rule func(value) error
	// fallback is what /configz shows of a field that nobody set and no flag tells: upstream's default.
	fallback any
	// sign stands between key and value in the flag's text; empty means «=».
	sign string
	// to and from turn a value into the flag's text and back, where they differ.
	to   func(string) string
	from func(string) string
}

func (f field) check(v value) error {
	if f.rule == nil {
		return nil
	}
	return f.rule(v)
}

func (f field) text(v value) string {
	sign := f.sign
	if sign == "" {
		sign = "="
	}
	text := f.kind.flagText(v, sign)
	if f.to != nil {
		return f.to(text)
	}
	return text
}

// only lets some words pass.
func only(words ...string) func(value) error {
	return func(v value) error {
		for _, w := range words {
			if v.text == w {
				return nil
			}
		}
		return told("Unsupported value: %q: supported values: %q", v.text, words)
	}
}

// none refuses all but what asks for nothing.
func none(why string) func(value) error {
	return func(v value) error {
		if v.empty() {
			return nil
		}
		return told("Forbidden: %s", why)
	}
}

// among lets some items of a list pass.
func among(words ...string) func(value) error {
	one := only(words...)
	return func(v value) error {
		for _, item := range v.list {
			if err := one(value{text: item}); err != nil {
				return err
			}
		}
		return nil
	}
}

// unlessZero: a flag of 0 says what a field says that is not set.
func unlessZero(flag string) string {
	if flag == "0" {
		return ""
	}
	return flag
}

// quarter and fourfold: a lease lasts four times as long as the time between two renewals.
func quarter(seconds string) string {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return seconds // the flag says what is wrong with it
	}
	return (time.Duration(n) * time.Second / 4).String()
}

func fourfold(interval string) string {
	d, err := time.ParseDuration(interval)
	if err != nil {
		return ""
	}
	return strconv.Itoa(int(4 * d / time.Second))
}

// parents are the paths that have fields below them.
var parents = func() map[string]bool {
	all := map[string]bool{}
	for name := range table {
		for i := strings.LastIndexByte(name, '.'); i > 0; i = strings.LastIndexByte(name[:i], '.') {
			all[name[:i]] = true
		}
	}
	return all
}()

// table has every field of the type, by its path; a test compares it with the type.
var table = map[string]field{
	// The door.
	"enableServer":                               {kind: boolean, flag: "enable-server", rule: only("true"), fallback: true},
	"address":                                    {kind: text, flag: "address"},
	"port":                                       {kind: number, flag: "port"},
	"readOnlyPort":                               {kind: number, flag: "read-only-port", rule: none("this kubelet serves nobody who is not known; use the port with authentication"), fallback: 0},
	"tlsCertFile":                                {kind: file, flag: "tls-cert-file"},
	"tlsPrivateKeyFile":                          {kind: file, flag: "tls-private-key-file"},
	"tlsCipherSuites":                            {kind: list, flag: "tls-cipher-suites"},
	"tlsCurvePreferences":                        {kind: numbers, flag: "tls-curve-preferences"},
	"tlsMinVersion":                              {kind: text, flag: "tls-min-version"},
	"rotateCertificates":                         {kind: boolean, flag: "rotate-certificates"},
	"serverTLSBootstrap":                         {kind: boolean, flag: "rotate-server-certificates"},
	"authentication.x509.clientCAFile":           {kind: file, flag: "client-ca-file"},
	"authentication.webhook.enabled":             {kind: boolean, flag: "authentication-token-webhook"},
	"authentication.webhook.cacheTTL":            {kind: duration, flag: "authentication-token-webhook-cache-ttl"},
	"authentication.anonymous.enabled":           {kind: boolean, flag: "anonymous-auth"},
	"authorization.mode":                         {kind: text, flag: "authorization-mode"},
	"authorization.webhook.cacheAuthorizedTTL":   {kind: duration, flag: "authorization-webhook-cache-authorized-ttl"},
	"authorization.webhook.cacheUnauthorizedTTL": {kind: duration, flag: "authorization-webhook-cache-unauthorized-ttl"},
	"enableDebuggingHandlers":                    {kind: boolean, flag: "enable-debugging-handlers"},
	"enableContentionProfiling":                  {kind: boolean, flag: "contention-profiling"},
	"enableProfilingHandler":                     {kind: boolean, flag: "enable-profiling-handler"},
	"enableSystemLogHandler":                     {kind: boolean, flag: "enable-system-log-handler"},
	"enableDebugFlagsHandler":                    {kind: boolean, fallback: true}, // there is no verbosity to change
	"enableSystemLogQuery":                       {kind: boolean, rule: only("false"), fallback: false},
	"healthzPort":                                {kind: number, flag: "healthz-port"},
	"healthzBindAddress":                         {kind: text, flag: "healthz-bind-address"},
	"streamingConnectionIdleTimeout":             {kind: duration, flag: "streaming-connection-idle-timeout"},

	// Where pods come from, and their logs.
	"staticPodPath":               {kind: file, flag: "pod-manifest-path"},
	"staticPodURL":                {kind: text, flag: "manifest-url"},
	"staticPodURLHeader":          {kind: object, flag: "manifest-url-header"},
	"syncFrequency":               {kind: duration, flag: "sync-frequency", fallback: "1m0s"}, // events wake, see ARCHITECTURE.md
	"fileCheckFrequency":          {kind: duration, flag: "file-check-frequency", fallback: "20s"},
	"httpCheckFrequency":          {kind: duration, flag: "http-check-frequency", fallback: "20s"},
	"podLogsDir":                  {kind: file, flag: "pod-logs-dir"},
	"containerLogMaxSize":         {kind: text, flag: "container-log-max-size"},
	"containerLogMaxFiles":        {kind: number, flag: "container-log-max-files"},
	"containerLogMaxWorkers":      {kind: number, flag: "container-log-max-workers", fallback: 1}, // who writes a log rotates it, at once
	"containerLogMonitorInterval": {kind: duration, flag: "container-log-monitor-interval", fallback: "10s"},

	// The API.
	"eventRecordQPS": {kind: number, flag: "event-qps", fallback: 50}, // nothing is held back here
	"eventBurst":     {kind: number, flag: "event-burst", fallback: 100},
	"contentType":    {kind: text, flag: "kube-api-content-type", rule: only("", "application/json", "application/vnd.kubernetes.protobuf"), fallback: "application/vnd.kubernetes.protobuf"},
	"kubeAPIQPS":     {kind: number, flag: "kube-api-qps", fallback: 50},
	"kubeAPIBurst":   {kind: number, flag: "kube-api-burst", fallback: 100},
	"configMapAndSecretChangeDetectionStrategy": {kind: text, rule: only("Watch", "Cache", "Get"), fallback: "Watch"}, // a watch is never staler

	// The node.
	"nodeStatusUpdateFrequency":    {kind: duration, flag: "node-status-update-frequency", fallback: "10s"},
	"nodeStatusReportFrequency":    {kind: duration, fallback: "5m0s"},
	"nodeStatusMaxImages":          {kind: number, flag: "node-status-max-images", fallback: 50},
	"nodeLeaseDurationSeconds":     {kind: number, flag: "node-lease-interval", to: quarter, from: fourfold},
	"registerNode":                 {kind: boolean, flag: "register-node", rule: only("true"), fallback: true},
	"registerWithTaints":           {kind: taints, flag: "register-with-taints"},
	"providerID":                   {kind: text, flag: "provider-id", rule: none("nodes of clouds get their provider's name by the cloud's controller"), fallback: ""},
	"maxPods":                      {kind: number, flag: "max-pods"},
	"podsPerCore":                  {kind: number, flag: "pods-per-core"},
	"podCIDR":                      {kind: text, flag: "pod-cidr", fallback: ""}, // for a node without an API server
	"runOnce":                      {kind: boolean, flag: "runonce", rule: only("false"), fallback: false},
	"enableControllerAttachDetach": {kind: boolean, flag: "enable-controller-attach-detach", rule: only("true"), fallback: true},
	"oomScoreAdj":                  {kind: number, flag: "oom-score-adj"},
	"maxOpenFiles":                 {kind: number, flag: "max-open-files", fallback: 1000000}, // Go raises the limit by itself
	"failSwapOn":                   {kind: boolean, flag: "fail-swap-on"},
	"failCgroupV1":                 {kind: boolean, flag: "fail-cgroupv1"},
	"protectKernelDefaults":        {kind: boolean, flag: "protect-kernel-defaults", rule: only("false"), fallback: false},
	"makeIPTablesUtilChains":       {kind: boolean, flag: "make-iptables-util-chains", fallback: true}, // nothing here uses iptables
	"iptablesMasqueradeBit":        {kind: number, flag: "iptables-masquerade-bit", fallback: 14},
	"iptablesDropBit":              {kind: number, flag: "iptables-drop-bit", fallback: 15},
	"featureGates":                 {kind: gates, flag: "feature-gates"}, // there are none
	"showHiddenMetricsForVersion":  {kind: text, flag: "show-hidden-metrics-for-version", fallback: ""},

	// Names and addresses of pods.
	"clusterDomain": {kind: text, flag: "cluster-domain"},
	"clusterDNS":    {kind: list, flag: "cluster-dns"},
	"resolvConf":    {kind: file, flag: "resolv-conf"},
	"hairpinMode":   {kind: text, flag: "hairpin-mode", rule: only("hairpin-veth", "promiscuous-bridge"), fallback: "hairpin-veth"},

	// Images.
	"containerRuntimeEndpoint":               {kind: text, flag: "container-runtime-endpoint"},
	"imageServiceEndpoint":                   {kind: text, flag: "image-service-endpoint", fallback: ""}, // containerd is both
	"registryPullQPS":                        {kind: number, flag: "registry-qps", fallback: 5},
	"registryBurst":                          {kind: number, flag: "registry-burst", fallback: 10},
	"serializeImagePulls":                    {kind: boolean, flag: "serialize-image-pulls", fallback: false},
	"maxParallelImagePulls":                  {kind: number, flag: "max-parallel-image-pulls"},
	"imagePullCredentialsVerificationPolicy": {kind: text, flag: "image-pull-credentials-verification-policy", fallback: "NeverVerifyPreloadedImages"},
	"preloadedImagesVerificationAllowlist":   {kind: list, flag: "preloaded-images-verification-allowlist"},
	"imageMinimumGCAge":                      {kind: duration, flag: "minimum-image-ttl-duration", fallback: "2m0s"},
	"imageMaximumGCAge":                      {kind: duration, flag: "maximum-image-gc-age", fallback: "0s"},
	"imageGCHighThresholdPercent":            {kind: number, flag: "image-gc-high-threshold", fallback: 85},
	"imageGCLowThresholdPercent":             {kind: number, flag: "image-gc-low-threshold", fallback: 80},

	// Groups and limits.
	"cgroupRoot":                   {kind: text, flag: "cgroup-root"},
	"cgroupsPerQOS":                {kind: boolean, flag: "cgroups-per-qos", rule: only("true"), fallback: true},
	"cgroupDriver":                 {kind: text, flag: "cgroup-driver", rule: only("cgroupfs"), fallback: "cgroupfs"},
	"kubeletCgroups":               {kind: text, flag: "kubelet-cgroups", fallback: ""}, // only names the group, where upstream runs by systemd
	"systemCgroups":                {kind: text, flag: "system-cgroups", rule: none("this kubelet moves no processes but those of pods"), fallback: ""},
	"cpuManagerPolicy":             {kind: text, flag: "cpu-manager-policy", fallback: "none"},
	"cpuManagerPolicyOptions":      {kind: pairs, flag: "cpu-manager-policy-options"},
	"cpuManagerReconcilePeriod":    {kind: duration, flag: "cpu-manager-reconcile-period", fallback: "10s"},
	"memoryManagerPolicy":          {kind: text, flag: "memory-manager-policy", rule: only("", "None"), fallback: "None"},
	"reservedMemory":               {kind: object, flag: "reserved-memory", rule: none("it is for the memory manager's static policy")},
	"topologyManagerPolicy":        {kind: text, flag: "topology-manager-policy", rule: only("", "none"), fallback: "none"},
	"topologyManagerScope":         {kind: text, flag: "topology-manager-scope", rule: only("", "container", "pod"), fallback: "container"},
	"topologyManagerPolicyOptions": {kind: pairs, flag: "topology-manager-policy-options", rule: none("there is no topology policy but none")},
	"qosReserved":                  {kind: pairs, flag: "qos-reserved", rule: none("requests of one class are not kept from the others")},
	"podPidsLimit":                 {kind: number, flag: "pod-max-pids", fallback: -1},
	"cpuCFSQuota":                  {kind: boolean, flag: "cpu-cfs-quota", fallback: true},
	"cpuCFSQuotaPeriod":            {kind: duration, flag: "cpu-cfs-quota-period", fallback: "100ms"},
	"singleProcessOOMKill":         {kind: boolean, flag: "single-process-oom-kill"},
	"memorySwap.swapBehavior":      {kind: text, flag: "memory-swap-behavior", rule: only("", "NoSwap"), fallback: ""},
	"memoryThrottlingFactor":       {kind: float, flag: "memory-throttling-factor", from: unlessZero},
	"memoryReservationPolicy":      {kind: text, flag: "memory-reservation-policy", fallback: "None"},
	"seccompDefault":               {kind: boolean, flag: "seccomp-default", fallback: false},
	"allowedUnsafeSysctls":         {kind: list, flag: "allowed-unsafe-sysctls"},
	"defaultPodSysctls":            {kind: pairs, flag: "default-pod-sysctls", rule: none("sysctls are the pod's own")},
	"systemReserved":               {kind: pairs, flag: "system-reserved"},
	"kubeReserved":                 {kind: pairs, flag: "kube-reserved"},
	"reservedSystemCPUs":           {kind: text, flag: "reserved-cpus", fallback: ""},
	"systemReservedCgroup":         {kind: text, flag: "system-reserved-cgroup", fallback: ""}, // of use only when it is enforced
	"kubeReservedCgroup":           {kind: text, flag: "kube-reserved-cgroup", fallback: ""},
	"enforceNodeAllocatable":       {kind: list, flag: "enforce-node-allocatable", rule: among("none", "", "pods"), fallback: []string{"pods"}},
	"userNamespaces.idsPerPod":     {kind: number, flag: "user-namespaces-ids-per-pod", rule: only("65536"), fallback: 65536},
	"kernelMemcgNotification":      {kind: boolean, flag: "kernel-memcg-notification", fallback: false},
	"runtimeRequestTimeout":        {kind: duration, flag: "runtime-request-timeout", fallback: "2m0s"},

	// When things run short.
	"evictionHard":                     {kind: pairs, flag: "eviction-hard", sign: "<"},
	"evictionSoft":                     {kind: pairs, flag: "eviction-soft", sign: "<"},
	"evictionSoftGracePeriod":          {kind: pairs, flag: "eviction-soft-grace-period"},
	"evictionPressureTransitionPeriod": {kind: duration, flag: "eviction-pressure-transition-period"},
	"evictionMaxPodGracePeriod":        {kind: number, flag: "eviction-max-pod-grace-period", fallback: 0},
	"evictionMinimumReclaim":           {kind: pairs, flag: "eviction-minimum-reclaim"},
	"mergeDefaultEvictionSettings":     {kind: boolean, fallback: false}, // see Settings
	"localStorageCapacityIsolation":    {kind: boolean, flag: "local-storage-capacity-isolation", rule: only("true"), fallback: true},

	// Volumes.
	"volumePluginDir":      {kind: text, flag: "volume-plugin-dir", fallback: ""}, // only CSI drivers are spoken to
	"volumeStatsAggPeriod": {kind: duration, flag: "volume-stats-agg-period"},

	// Starts, ends and what is told of them.
	"crashLoopBackOff.maxContainerRestartPeriod": {kind: duration, flag: "max-container-restart-period"},
	"shutdownGracePeriod":                        {kind: duration, flag: "shutdown-grace-period", fallback: "0s"},
	"shutdownGracePeriodCriticalPods":            {kind: duration, flag: "shutdown-grace-period-critical-pods", fallback: "0s"},
	"shutdownGracePeriodByPodPriority":           {kind: object, flag: "shutdown-grace-period-by-pod-priority"},
	"logging.format":                             {kind: text, flag: "logging-format", rule: only("", "text", "json"), fallback: "json"}, // --log-level and --log-format are ours
	"logging.flushFrequency":                     {kind: object, flag: "log-flush-frequency", fallback: "5s"},
	"logging.verbosity":                          {kind: number, flag: "v", fallback: 0},
	"logging.vmodule":                            {kind: object, flag: "vmodule"},
	"logging.options":                            {kind: object},
	"tracing.endpoint":                           {kind: text, rule: none("this kubelet sends no traces")},
	"tracing.samplingRatePerMillion":             {kind: number, rule: none("this kubelet sends no traces")},
}
