package stats

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/pkg/version"
)

// Facts is the collector of what /metrics says of the node's state, beside what is counted where it happens.
type Facts struct{ s *Stats }

// Facts collects with the same parts.
func (s *Stats) Facts() Facts { return Facts{s} }

var (
	build             = version.Info()
	buildInfo         = prometheus.NewDesc("kubernetes_build_info", "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.", nil, prometheus.Labels{"major": build.Major, "minor": build.Minor, "git_version": build.GitVersion, "git_commit": build.GitCommit, "git_tree_state": build.GitTreeState, "build_date": build.BuildDate, "go_version": build.GoVersion, "compiler": build.Compiler, "platform": build.Platform})
	nodeName          = prometheus.NewDesc("kubelet_node_name", "The node's name. The count is always 1.", []string{"node"}, nil)
	runningPods       = prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil)
	runningContainers = prometheus.NewDesc("kubelet_running_containers", "Number of containers currently running", []string{"container_state"}, nil)
	desiredPods       = prometheus.NewDesc("kubelet_desired_pods", "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.", []string{"static"}, nil)

	claim          = []string{"namespace", "persistentvolumeclaim"}
	claimCapacity  = prometheus.NewDesc("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", claim, nil)
	claimAvailable = prometheus.NewDesc("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", claim, nil)
	claimUsed      = prometheus.NewDesc("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", claim, nil)
	claimInodes    = prometheus.NewDesc("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", claim, nil)
	claimFree      = prometheus.NewDesc("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", claim, nil)
	claimTaken     = prometheus.NewDesc("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", claim, nil)
)

// Describe names nothing: which rows there are depends on the pods.
func (f Facts) Describe(chan<- *prometheus.Desc) {}

// Collect looks anew.
func (f Facts) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(buildInfo, 1)
	gauge(nodeName, 1, f.s.cfg.Node)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	pods := f.s.parts.Pods.Pods()
	static := 0
	told := map[string]bool{}
	for _, p := range pods {
		if pod.Static(p) {
			static++
		}
		f.s.claims(ctx, p, func(v volumeOfClaim) {
			if key := v.namespace + "/" + v.claim; !told[key] {
				told[key] = true
				for d, n := range map[*prometheus.Desc]*uint64{claimCapacity: v.fs.CapacityBytes, claimAvailable: v.fs.AvailableBytes, claimUsed: v.fs.UsedBytes,
					claimInodes: v.fs.Inodes, claimFree: v.fs.InodesFree, claimTaken: v.fs.InodesUsed} {
					if n != nil {
						gauge(d, float64(*n), v.namespace, v.claim)
					}
				}
			}
		})
	}
	gauge(desiredPods, float64(len(pods)-static), "")
	if static > 0 {
		gauge(desiredPods, float64(static), "true")
	}
	l, err := f.s.parts.Runtime.List(ctx)
	if err != nil {
		return // containerd is away: what runs is not known
	}
	states := map[containers.State]int{containers.Running: 0}
	for _, c := range l.Containers {
		states[c.State]++
	}
	for state, n := range states {
		gauge(runningContainers, float64(n), map[containers.State]string{containers.Created: "created", containers.Running: "running", containers.Exited: "exited"}[state])
	}
	ready := 0
	for _, b := range l.Sandboxes {
		if b.Ready {
			ready++
		}
	}
	gauge(runningPods, float64(ready))
}
