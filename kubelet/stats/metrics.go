package stats

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// The metrics of /metrics/resource, which metrics-server reads.
var (
	nodeCPU         = prometheus.NewDesc("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", nil, nil)
	nodeMemory      = prometheus.NewDesc("node_memory_working_set_bytes", "Current working set of the node in bytes", nil, nil)
	podCPU          = prometheus.NewDesc("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", []string{"namespace", "pod"}, nil)
	podMemory       = prometheus.NewDesc("pod_memory_working_set_bytes", "Current working set of the pod in bytes", []string{"namespace", "pod"}, nil)
	containerCPU    = prometheus.NewDesc("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", []string{"container", "namespace", "pod"}, nil)
	containerMemory = prometheus.NewDesc("container_memory_working_set_bytes", "Current working set of the container in bytes", []string{"container", "namespace", "pod"}, nil)
	containerStart  = prometheus.NewDesc("container_start_time_seconds", "Start time of the container since unix epoch in seconds", []string{"container", "namespace", "pod"}, nil)
	scrapeError     = prometheus.NewDesc("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil, nil)
)

// Describe and Collect make Stats a collector.
func (s *Stats) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{nodeCPU, nodeMemory, podCPU, podMemory, containerCPU, containerMemory, containerStart, scrapeError} {
		ch <- d
	}
}

// Collect reads everything anew.
func (s *Stats) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sum, err := s.Summary(ctx)
	if err != nil {
		ch <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, 1)
		return
	}
	ch <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, 0)
	use := func(cpu *statsv1.CPUStats, memory *statsv1.MemoryStats, cpuDesc, memDesc *prometheus.Desc, labels ...string) {
		ch <- prometheus.NewMetricWithTimestamp(cpu.Time.Time, prometheus.MustNewConstMetric(cpuDesc, prometheus.CounterValue, float64(*cpu.UsageCoreNanoSeconds)/1e9, labels...))
		ch <- prometheus.NewMetricWithTimestamp(memory.Time.Time, prometheus.MustNewConstMetric(memDesc, prometheus.GaugeValue, float64(*memory.WorkingSetBytes), labels...))
	}
	use(sum.Node.CPU, sum.Node.Memory, nodeCPU, nodeMemory)
	for _, p := range sum.Pods {
		use(p.CPU, p.Memory, podCPU, podMemory, p.PodRef.Namespace, p.PodRef.Name)
		for _, c := range p.Containers {
			use(c.CPU, c.Memory, containerCPU, containerMemory, c.Name, p.PodRef.Namespace, p.PodRef.Name)
			ch <- prometheus.MustNewConstMetric(containerStart, prometheus.GaugeValue, float64(c.StartTime.UnixMilli())/1e3, c.Name, p.PodRef.Namespace, p.PodRef.Name)
		}
	}
}
