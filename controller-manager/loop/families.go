package loop

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Families are the metrics of the controllers themselves. A family is made and registered when it is first asked for, and the same
// one given when a later term, or another controller, asks again. Safe for concurrent use; a nil Families gives families that
// nobody collects.
type Families struct {
	reg prometheus.Registerer

	mu   sync.Mutex
	made map[string]prometheus.Collector // guarded by mu
}

// NewFamilies registers with reg what will be asked for.
func NewFamilies(reg prometheus.Registerer) *Families {
	return &Families{reg: reg, made: map[string]prometheus.Collector{}}
}

// Counter is a family of counters. A name that belongs to a family of another sort is a mistake in the program, and panics.
func (f *Families) Counter(name, help string, labels ...string) *prometheus.CounterVec {
	return family(f, name, func() *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	})
}

// Gauge is a family of gauges; see Counter.
func (f *Families) Gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return family(f, name, func() *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	})
}

// Histogram is a family of histograms over these buckets; see Counter.
func (f *Families) Histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return family(f, name, func() *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	})
}

// Adopt registers collectors that a library made for the whole process, under a name for all of them, once.
func (f *Families) Adopt(name string, all ...prometheus.Collector) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made[name] != nil || len(all) == 0 {
		return
	}
	f.reg.MustRegister(all...)
	f.made[name] = all[0]
}

func family[C prometheus.Collector](f *Families, name string, create func() C) C {
	if f == nil {
		return create()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, there := f.made[name]; there {
		return c.(C)
	}
	c := create()
	f.reg.MustRegister(c)
	f.made[name] = c
	return c
}
