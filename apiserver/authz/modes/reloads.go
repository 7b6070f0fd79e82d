package modes

import (
	"crypto/sha256"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// reloads tell what became of changes of the file, named as Kubernetes users know it.
type reloads struct {
	total *prometheus.CounterVec
	last  *prometheus.GaugeVec
	info  *prometheus.GaugeVec
}

func newReloads(reg prometheus.Registerer) *reloads {
	const prefix = "apiserver_authorization_config_controller_"
	r := &reloads{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "automatic_reloads_total", Help: "Changes of the authorization configuration that were read, by status.",
		}, []string{"status"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "automatic_reload_last_timestamp_seconds", Help: "When a change of the authorization configuration was last read, by status.",
		}, []string{"status"}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "last_config_info", Help: "The authorization configuration in force, by its hash.",
		}, []string{"hash"}),
	}
	reg.MustRegister(r.total, r.last, r.info)
	return r
}

func (r *reloads) done(status string) {
	r.total.WithLabelValues(status).Inc()
	r.last.WithLabelValues(status).SetToCurrentTime()
}

func (r *reloads) inUse(data []byte) {
	r.info.Reset()
	r.info.WithLabelValues(fmt.Sprintf("sha256:%x", sha256.Sum256(data))).Set(1)
}
