package images

import (
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

// numbers are what is counted about images, by the names that Kubernetes gives them
// (https://kubernetes.io/docs/reference/instrumentation/metrics/).
type numbers struct {
	requests  *prometheus.CounterVec
	took      *prometheus.HistogramVec
	collected *prometheus.CounterVec
}

func newNumbers() numbers {
	return numbers{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_image_manager_ensure_image_requests_total",
			Help: "Number of ensure-image requests processed by the kubelet."}, []string{"pull_policy", "present_locally", "pull_required"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_image_pull_duration_seconds",
			Help:    "Duration in seconds to pull an image.",
			Buckets: []float64{1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 480, 600, 900, 1200, 1800, 3600}}, []string{"image_size_in_bytes"}),
		collected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_image_garbage_collected_total",
			Help: "Total number of images garbage collected by the kubelet, whether through disk usage or image age."}, []string{"reason"}),
	}
}

// Collectors are the numbers about images.
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.numbers.requests, s.numbers.took, s.numbers.collected}
}

func (n numbers) ensured(policy corev1.PullPolicy, here *bool, pulled bool, err error) {
	present, required := "unknown", "false"
	if here != nil {
		present = map[bool]string{true: "true", false: "false"}[*here]
	}
	if pulled || err != nil && Reason(err) != NeverPull {
		required = "true"
	}
	n.requests.WithLabelValues(string(policy), present, required).Inc()
}

func (n numbers) pulled(img Image) {
	n.took.WithLabelValues(sizeRange(img.Size)).Observe(img.Waited.Seconds())
}

// sizeRange is the name of the range that a size falls into.
func sizeRange(bytes int64) string {
	const mb, gb = 1 << 20, 1 << 30
	for _, r := range []struct {
		below int64
		name  string
	}{{10 * mb, "0-10MB"}, {100 * mb, "10MB-100MB"}, {500 * mb, "100MB-500MB"}, {gb, "500MB-1GB"}, {5 * gb, "1GB-5GB"}, {10 * gb, "5GB-10GB"},
		{20 * gb, "10GB-20GB"}, {30 * gb, "20GB-30GB"}, {40 * gb, "30GB-40GB"}, {60 * gb, "40GB-60GB"}, {100 * gb, "60GB-100GB"}} {
		if bytes < r.below {
			return r.name
		}
	}
	return "GT100GB"
}
