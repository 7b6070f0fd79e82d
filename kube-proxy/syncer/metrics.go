package syncer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pilothouse.dev/kube-proxy/changes"
)

// The metrics are named as users of kube-proxy know them, where there is one.
var (
	syncDuration = promauto.NewHistogram(prometheus.HistogramOpts{
		Name:    "kubeproxy_sync_proxy_rules_duration_seconds",
		Help:    "How long it takes to write a change of the rules.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	})
	verifyDuration = promauto.NewHistogram(prometheus.HistogramOpts{
		Name:    "kubeproxy_sync_full_proxy_rules_duration_seconds",
		Help:    "How long it takes to look after the rules when nothing has changed.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	})
	programmingDuration = promauto.NewHistogram(prometheus.HistogramOpts{
		Name:    "kubeproxy_network_programming_duration_seconds",
		Help:    "From the change of a pod or service to its rules on this node.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 16),
	})
	lastSync = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
		Help: "When the rules were last written.",
	})
	lastQueued = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
		Help: "When writing the rules was last begun.",
	})
	serviceChanges = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_service_changes_total",
		Help: "Changes of Services heard of.",
	})
	endpointChanges = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_endpoint_changes_total",
		Help: "Changes of EndpointSlices heard of.",
	})
	syncFailures = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
		Help: "Transactions that the kernel refused, or looks at the rules that failed.",
	})
	repairs = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_nftables_repairs_total",
		Help: "Times the kernel did not hold our rules: once at the start, later after tampering.",
	})
	forgotten = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_conntrack_reconciler_deleted_entries_total",
		Help: "Stale UDP flows that were forgotten.",
	})
)

// count counts what came in.
func count(n changes.News) {
	serviceChanges.Add(float64(n.Services))
	endpointChanges.Add(float64(n.Slices))
	lastQueued.SetToCurrentTime()
}

// written measures a write.
func written(start time.Time, n changes.News) {
	now := time.Now()
	syncDuration.Observe(now.Sub(start).Seconds())
	lastSync.SetToCurrentTime()
	for _, at := range n.Since {
		programmingDuration.Observe(now.Sub(at).Seconds())
	}
}

// verified measures a look at the rules.
func verified(start time.Time) { verifyDuration.Observe(time.Since(start).Seconds()) }
