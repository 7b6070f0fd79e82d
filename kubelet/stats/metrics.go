package stats

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The metrics of /metrics/resource, which metrics-server reads (https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
var (
	nodeCPU            = prometheus.NewDesc("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", nil, nil)
	nodeMemory         = prometheus.NewDesc("node_memory_working_set_bytes", "Current working set of the node in bytes", nil, nil)
	nodeSwap           = prometheus.NewDesc("node_swap_usage_bytes", "Current swap usage of the node in bytes. Reported only on non-windows systems", nil, nil)
	podCPU             = prometheus.NewDesc("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", ofPod, nil)
	podMemory          = prometheus.NewDesc("pod_memory_working_set_bytes", "Current working set of the pod in bytes", ofPod, nil)
	podSwap            = prometheus.NewDesc("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems", ofPod, nil)
	containerCPU       = prometheus.NewDesc("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", ofContainer, nil)
	containerMemory    = prometheus.NewDesc("container_memory_working_set_bytes", "Current working set of the container in bytes", ofContainer, nil)
	containerSwap      = prometheus.NewDesc("container_swap_usage_bytes", "Current amount of the container swap usage in bytes. Reported only on non-windows systems", ofContainer, nil)
	containerSwapLimit = prometheus.NewDesc("container_swap_limit_bytes", "Current amount of the container swap limit in bytes. Reported only on non-windows systems", ofContainer, nil)
	containerStart     = prometheus.NewDesc("container_start_time_seconds", "Start time of the container since unix epoch in seconds", ofContainer, nil)
	scrapeError        = prometheus.NewDesc("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil, nil)
)

var (
	ofPod       = []string{"namespace", "pod"}
	ofContainer = []string{"container", "namespace", "pod"}
)

// Describe and Collect make Stats the collector of /metrics/resource.
func (s *Stats) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{nodeCPU, nodeMemory, nodeSwap, podCPU, podMemory, podSwap, containerCPU, containerMemory, containerSwap, containerSwapLimit, containerStart, scrapeError} {
		ch <- d
	}
}

// Collect reads everything anew.
func (s *Stats) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	seen, err := s.look(ctx, false)
	var now time.Time
	var busy time.Duration
	var have map[string]uint64
	if err == nil {
		now, busy, err = machineCPU()
	}
	if err == nil {
		have, err = Memory()
	}
	if err != nil {
		ch <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, 1)
		return
	}
	ch <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, 0)
	tell := func(at time.Time, d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.NewMetricWithTimestamp(at, prometheus.MustNewConstMetric(d, kind, v, labels...))
	}
	tell(now, nodeCPU, prometheus.CounterValue, busy.Seconds())
	tell(now, nodeMemory, prometheus.GaugeValue, float64(have["MemTotal"]-have["MemAvailable"]))
	tell(now, nodeSwap, prometheus.GaugeValue, float64(have["SwapTotal"]-have["SwapFree"]))
	for i := range seen.groups {
		g := &seen.groups[i]
		d := &g.detail
		cpu, memory, swap, labels := podCPU, podMemory, podSwap, []string{g.pod.Namespace, g.pod.Name}
		if g.ctr != nil {
			cpu, memory, swap, labels = containerCPU, containerMemory, containerSwap, []string{g.ctr.Name, g.pod.Namespace, g.pod.Name}
			ch <- prometheus.MustNewConstMetric(containerStart, prometheus.GaugeValue, float64(g.ctr.Started.UnixMilli())/1e3, labels...)
			tell(d.Time, containerSwapLimit, prometheus.GaugeValue, float64(g.swapLimit()), labels...)
		}
		tell(d.Time, cpu, prometheus.CounterValue, d.CPU.Seconds(), labels...)
		tell(d.Time, memory, prometheus.GaugeValue, float64(d.WorkingSet), labels...)
		tell(d.Time, swap, prometheus.GaugeValue, float64(d.Swap), labels...)
	}
}
