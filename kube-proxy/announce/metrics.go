package announce

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	announced = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubeproxy_load_balancer_announced",
		Help: "1 for each load balancer address that this node answers for.",
	}, []string{"ip"})
	changed = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_load_balancer_announcements_total",
		Help: "Load balancer addresses that this node began to answer for (taken), also because the node before fell silent (inherited), or ceased to: another node answers (left), or none is to (removed).",
	}, []string{"change"})
	gratuitousSent = promauto.NewCounter(prometheus.CounterOpts{
		Name: "kubeproxy_load_balancer_gratuitous_packets_total",
		Help: "Gratuitous ARP packets and unsolicited neighbour advertisements sent.",
	})
	deafness = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "kubeproxy_load_balancer_deaf",
		Help: "1 while renewals of this node's own Lease are not seen, so that it takes no address.",
	})
)
