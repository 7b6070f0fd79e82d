package encryption

import "github.com/prometheus/client_golang/prometheus"

// metrics are named as Kubernetes users know them.
type metrics struct {
	operations *prometheus.CounterVec
	reloads    *prometheus.CounterVec
	info       *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_storage_transformation_operations_total", Help: "Values sealed for etcd and opened, by provider and outcome.",
		}, []string{"transformation_type", "transformer_prefix", "status"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_encryption_config_controller_automatic_reloads_total", Help: "Times the encryption configuration was read again, by outcome.",
		}, []string{"status"}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_encryption_config_controller_last_config_info", Help: "The hash of the encryption configuration in force.",
		}, []string{"hash"}),
	}
	if reg != nil {
		reg.MustRegister(m.operations, m.reloads, m.info)
	}
	return m
}

// did counts one value sealed or opened.
func (m *metrics) did(what string, p provider, err error) {
	status := "OK"
	if err != nil {
		status = "Unknown"
	}
	m.operations.WithLabelValues(what, p.name(), status).Inc()
}
