package policy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	syncDuration = promauto.NewHistogram(prometheus.HistogramOpts{
		Name:    "kubeproxy_network_policy_sync_duration_seconds",
		Help:    "How long it takes to write a change of the policies' rules.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	})
	verifyDuration = promauto.NewHistogram(prometheus.HistogramOpts{
		Name:    "kubeproxy_network_policy_verify_duration_seconds",
		Help:    "How long it takes to look after the policies' rules when nothing has changed.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	})
	lastSync = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "kubeproxy_network_policy_last_timestamp_seconds",
		Help: "When the policies' rules were last written.",
	})
	policyCount = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "kubeproxy_network_policies",
		Help: "NetworkPolicies in the cluster.",
	})
	syncFailures = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_network_policy_sync_failures_total",
		Help: "Transactions that the kernel refused, or looks at the policies' rules that failed.",
	})
	repairs = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_network_policy_repairs_total",
		Help: "Times the kernel held other rules for policies than it should: those of an older run, or after tampering.",
	})
)

// written measures a write.
func written(start time.Time, policies int) {
	syncDuration.Observe(time.Since(start).Seconds())
	lastSync.SetToCurrentTime()
	policyCount.Set(float64(policies))
}

// verified measures a look at the rules.
func verified(start time.Time) { verifyDuration.Observe(time.Since(start).Seconds()) }
