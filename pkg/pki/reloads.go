package pki

import "github.com/prometheus/client_golang/prometheus"

// Reloads counts how often certificates, keys and authorities were read again because their files had changed, by the file and
// whether what was read is now in force (result ok) or the former stays (result error). Daemons register it.
var Reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "certificate_file_reloads_total", Help: "How often certificate files that had changed were read again, by result.",
}, []string{"file", "result"})

// Reloaded notes what became of a changed file.
func Reloaded(file string, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	Reloads.WithLabelValues(file, result).Inc()
}
