package endpointslicemirror

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	discoveryv1 "k8s.io/api/discovery/v1"

	"pilothouse.dev/controller-manager/loop"
)

// counts are the metrics, under the names that Kubernetes documents.
type counts struct {
	changes                          *prometheus.CounterVec
	added, updated, removed, skipped *prometheus.HistogramVec
	endpoints, slices, wanted        *prometheus.GaugeVec

	mu  sync.Mutex
	of  map[loop.Key]share // guarded by mu
	sum share              // guarded by mu
}

// share is what one Endpoints has part in the gauges.
type share struct{ endpoints, slices, wanted int }

func newCounts(f *loop.Families) *counts {
	const of = "endpoint_slice_mirroring_controller_"
	buckets := prometheus.ExponentialBuckets(2, 2, 15)
	return &counts{
		changes:   f.Counter(of+"changes", "Number of EndpointSlice changes", "operation"),
		added:     f.Histogram(of+"endpoints_added_per_sync", "Number of endpoints added on each Endpoints sync", buckets),
		updated:   f.Histogram(of+"endpoints_updated_per_sync", "Number of endpoints updated on each Endpoints sync", buckets),
		removed:   f.Histogram(of+"endpoints_removed_per_sync", "Number of endpoints removed on each Endpoints sync", buckets),
		skipped:   f.Histogram(of+"addresses_skipped_per_sync", "Number of addresses skipped on each Endpoints sync due to being invalid or exceeding MaxEndpointsPerSubset", buckets),
		endpoints: f.Gauge(of+"endpoints_desired", "Number of endpoints desired"),
		slices:    f.Gauge(of+"num_endpoint_slices", "Number of EndpointSlices"),
		wanted:    f.Gauge(of+"desired_endpoint_slices", "Number of EndpointSlices that would exist with perfect endpoint allocation"),
		of:        map[loop.Key]share{},
	}
}

// note counts a plan for Endpoints, as carried out.
func (c *counts) note(key loop.Key, p plan, have, want []*discoveryv1.EndpointSlice) {
	added, updated, removed := p.changes(have)
	c.added.WithLabelValues().Observe(float64(added))
	c.updated.WithLabelValues().Observe(float64(updated))
	c.removed.WithLabelValues().Observe(float64(removed))
	s := share{slices: len(want), wanted: len(want)}
	for _, w := range want {
		s.endpoints += len(w.Endpoints)
	}
	c.set(key, s)
}

func (c *counts) forget(key loop.Key) { c.set(key, share{}) }

func (c *counts) set(key loop.Key, s share) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.of[key]
	if s == was {
		return
	}
	if c.of[key] = s; s == (share{}) {
		delete(c.of, key)
	}
	c.sum = share{c.sum.endpoints + s.endpoints - was.endpoints, c.sum.slices + s.slices - was.slices, c.sum.wanted + s.wanted - was.wanted}
	c.endpoints.WithLabelValues().Set(float64(c.sum.endpoints))
	c.slices.WithLabelValues().Set(float64(c.sum.slices))
	c.wanted.WithLabelValues().Set(float64(c.sum.wanted))
}
