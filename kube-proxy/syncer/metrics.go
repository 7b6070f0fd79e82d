package syncer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pilothouse.dev/kube-proxy/changes"
)

// The metrics are named as users of kube-proxy know them, where there is one.
var (
	syncDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kubeproxy_sync_proxy_rules_duration_seconds",
		Help:    "How long it takes to write a change of the rules.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	}, []string{"ip_family"})
	verifyDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kubeproxy_sync_full_proxy_rules_duration_seconds",
		Help:    "How long it takes to look after the rules when nothing has changed.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	}, []string{"ip_family"})
	partialDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kubeproxy_sync_partial_proxy_rules_duration_seconds",
		Help:    "How long it takes to write a difference of the rules.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	}, []string{"ip_family"})
	programmingDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name: "kubeproxy_network_programming_duration_seconds",
		Help: "From the change of a pod or service to its rules on this node.",
		// Whatever is above a second is one for the alarms: there the usual bounds, below finer ones.
		Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300},
	}, []string{"ip_family"})
	lastSync = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
		Help: "When the rules were last written.",
	}, []string{"ip_family"})
	lastQueued = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
		Help: "When writing the rules was last begun.",
	}, []string{"ip_family"})
	serviceChanges = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_service_changes_total",
		Help: "Changes of Services heard of.",
	})
	endpointChanges = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_endpoint_changes_total",
		Help: "Changes of EndpointSlices heard of.",
	})
	syncFailures = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
		Help: "Transactions that the kernel refused, or looks at the rules that failed.",
	}, []string{"ip_family"})
	repairs = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_nftables_repairs_total",
		Help: "Times the kernel did not hold our rules: once at the start, later after tampering.",
	}, []string{"ip_family"})
	forgotten = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_conntrack_reconciler_deleted_entries_total",
		Help: "Stale UDP flows that were forgotten.",
	}, []string{"ip_family"})
	forgetDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kubeproxy_conntrack_reconciler_sync_duration_seconds",
		Help:    "How long it takes to find and forget stale UDP flows.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	}, []string{"ip_family"})
	noLocal = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
		Help: "Service ports with a policy Local, and endpoints, but none on this node.",
	}, []string{"ip_family", "traffic_policy"})
)

// meters are the metrics of one address family.
type meters struct {
	sync, partial, full, programming, forget prometheus.Observer
	lastSync, lastQueued                     prometheus.Gauge
	failures, repairs, forgotten             prometheus.Counter
	noLocalInside, noLocalOutside            prometheus.Gauge
}

func metersOf(family string) meters {
	return meters{
		sync: syncDuration.WithLabelValues(family), partial: partialDuration.WithLabelValues(family), full: verifyDuration.WithLabelValues(family),
		programming: programmingDuration.WithLabelValues(family), forget: forgetDuration.WithLabelValues(family),
		lastSync: lastSync.WithLabelValues(family), lastQueued: lastQueued.WithLabelValues(family),
		failures: syncFailures.WithLabelValues(family), repairs: repairs.WithLabelValues(family), forgotten: forgotten.WithLabelValues(family),
		noLocalInside: noLocal.WithLabelValues(family, "internal"), noLocalOutside: noLocal.WithLabelValues(family, "external"),
	}
}

// count counts what came in.
func (m meters) count(n changes.News) {
	serviceChanges.Add(float64(n.Services))
	endpointChanges.Add(float64(n.Slices))
	m.lastQueued.SetToCurrentTime()
}

// written measures a write, the first or a later one.
func (m meters) written(start time.Time, n changes.News, first bool, was, table *changes.Table) {
	now := time.Now()
	m.sync.Observe(now.Sub(start).Seconds())
	if first {
		m.full.Observe(now.Sub(start).Seconds())
	} else {
		m.partial.Observe(now.Sub(start).Seconds())
	}
	m.lastSync.SetToCurrentTime()
	for _, at := range n.Since {
		m.programming.Observe(now.Sub(at).Seconds())
	}
	gone, came := changes.Compare(was, table)
	m.homeless(gone, -1)
	m.homeless(came, 1)
}

// homeless counts services without an endpoint where a policy wants one.
func (m meters) homeless(services []*changes.Service, by float64) {
	for _, s := range services {
		if len(s.LocalEndpoints) > 0 || len(s.Endpoints) == 0 {
			continue
		}
		if s.InternalLocal {
			m.noLocalInside.Add(by)
		}
		if s.ExternalLocal {
			m.noLocalOutside.Add(by)
		}
	}
}

// verified measures a look at the rules.
func (m meters) verified(start time.Time) { m.full.Observe(time.Since(start).Seconds()) }
