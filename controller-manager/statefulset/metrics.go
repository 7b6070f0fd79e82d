package statefulset

import (
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"

	"pilothouse.dev/controller-manager/loop"
)

// metrics are what upstream's controller tells of each set with rolling updates.
type metrics struct{ allowed, unavailable *prometheus.GaugeVec }

const (
	labelNamespace = "statefulset_namespace"
	labelName      = "statefulset_name"
	labelPolicy    = "pod_management_policy"
)

// newMetrics begins a term: what a former one said of sets is dropped.
func newMetrics(f *loop.Families) *metrics {
	m := &metrics{
		allowed: f.Gauge("statefulset_controller_statefulset_max_unavailable",
			"How many pods a StatefulSet's rolling update may leave unavailable.", labelNamespace, labelName, labelPolicy),
		unavailable: f.Gauge("statefulset_controller_statefulset_unavailable_replicas",
			"How many pods of a StatefulSet are missing or not available.", labelNamespace, labelName, labelPolicy),
	}
	m.allowed.Reset()
	m.unavailable.Reset()
	return m
}

func (m *metrics) show(set *appsv1.StatefulSet, p plan) {
	if p.maxUnavailable == 0 {
		m.forget(loop.KeyOf(set))
		return
	}
	policy := string(set.Spec.PodManagementPolicy)
	m.allowed.WithLabelValues(set.Namespace, set.Name, policy).Set(float64(p.maxUnavailable))
	m.unavailable.WithLabelValues(set.Namespace, set.Name, policy).Set(float64(p.unavailable))
}

func (m *metrics) forget(key loop.Key) {
	of := prometheus.Labels{labelNamespace: key.Namespace, labelName: key.Name}
	m.allowed.DeletePartialMatch(of)
	m.unavailable.DeletePartialMatch(of)
}
