package flowcontrol

import "github.com/prometheus/client_golang/prometheus"

const prefix = "apiserver_flowcontrol_"

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// The metrics of priority levels and of flows in them, named as Kubernetes users know them
// (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#metrics).
var (
	descRejected     = describe("rejected_requests_total", "Requests refused, by level, schema and reason.", "priority_level", "flow_schema", "reason")
	descDispatched   = describe("dispatched_requests_total", "Requests that were given seats.", "priority_level", "flow_schema")
	descInQueue      = describe("current_inqueue_requests", "Requests that wait for seats.", "priority_level", "flow_schema")
	descInQueueSeats = describe("current_inqueue_seats", "Seats that requests wait for.", "priority_level", "flow_schema")
	descRunning      = describe("current_executing_requests", "Requests that have seats; of watches those that tell their initial events.", "priority_level", "flow_schema")
	descRunningSeats = describe("current_executing_seats", "Seats that are taken.", "priority_level", "flow_schema")
	descWait         = describe("request_wait_duration_seconds", "How long requests waited for seats, and whether they got them.", "priority_level", "flow_schema", "execute")
	descTook         = describe("request_execution_seconds", "How long requests had seats.", "priority_level", "flow_schema")
	descNominal      = describe("nominal_limit_seats", "A level's share of all seats.", "priority_level")
	descLower        = describe("lower_limit_seats", "What a level has left when it lends what it may.", "priority_level")
	descUpper        = describe("upper_limit_seats", "What a level has when it borrows what it may.", "priority_level")
	descCurrent      = describe("current_limit_seats", "What a level has now.", "priority_level")
	descMost         = describe("demand_seats_high_watermark", "The most seats that a level would have used, in the last period.", "priority_level")
	descMean         = describe("demand_seats_average", "The seats that a level would have used, in the mean of the last period.", "priority_level")
	descDeviation    = describe("demand_seats_stdev", "The standard deviation of the seats that a level would have used, in the last period.", "priority_level")
	descSmoothed     = describe("demand_seats_smoothed", "The seats that a level would use, by the last periods.", "priority_level")
	descTarget       = describe("target_seats", "What a level should have.", "priority_level")
	descFair         = describe("seat_fair_frac", "The part of its target that every level has, where its bounds allow.")
)

// Describe is a prometheus.Collector's.
func (g *Gate) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descRejected, descDispatched, descInQueue, descInQueueSeats, descRunning, descRunningSeats, descWait, descTook,
		descNominal, descLower, descUpper, descCurrent, descMost, descMean, descDeviation, descSmoothed, descTarget, descFair,
	} {
		out <- d
	}
}

// Collect is a prometheus.Collector's.
func (g *Gate) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	times := func(d *prometheus.Desc, h *histogram, labels ...string) {
		out <- prometheus.MustNewConstHistogram(d, h.all, h.sum, h.buckets(), labels...)
	}
	levels, fair := g.present()
	gauge(descFair, fair)
	for _, l := range levels {
		l.mu.Lock()
		gauge(descNominal, float64(l.bounds.nominal), l.name)
		gauge(descLower, float64(l.bounds.lower), l.name)
		gauge(descUpper, float64(l.bounds.upper), l.name)
		gauge(descCurrent, float64(l.limit), l.name)
		gauge(descMost, l.seen.most, l.name)
		gauge(descMean, l.seen.mean, l.name)
		gauge(descDeviation, l.seen.deviation, l.name)
		gauge(descSmoothed, l.smoothed, l.name)
		gauge(descTarget, l.target, l.name)
		for schema, y := range l.tallies {
			counter(descDispatched, y.dispatched, l.name, schema)
			for reason, n := range y.refused {
				counter(descRejected, n, l.name, schema, reason)
			}
			gauge(descInQueue, float64(y.inQueue), l.name, schema)
			gauge(descInQueueSeats, float64(y.inQueueSeats), l.name, schema)
			gauge(descRunning, float64(y.running), l.name, schema)
			gauge(descRunningSeats, float64(y.runningSeats), l.name, schema)
			if y.waitedToRun.all > 0 {
				times(descWait, &y.waitedToRun, l.name, schema, "true")
				times(descTook, &y.took, l.name, schema)
			}
			if y.waitedForNothing.all > 0 {
				times(descWait, &y.waitedForNothing, l.name, schema, "false")
			}
		}
		l.mu.Unlock()
	}
}
