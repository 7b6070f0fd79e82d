package changes

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Name is the identity of a service port.
type Name struct {
	Namespace string
	Service   string
	Port      string
}

// String gives namespace/service:port, without the colon for a nameless port.
func (n Name) String() string {
	if n.Port == "" {
		return n.Namespace + "/" + n.Service
	}
	return n.Namespace + "/" + n.Service + ":" + n.Port
}

func (n Name) compare(m Name) int {
	if c := cmp.Compare(n.Namespace, m.Namespace); c != 0 {
		return c
	}
	if c := cmp.Compare(n.Service, m.Service); c != 0 {
		return c
	}
	return cmp.Compare(n.Port, m.Port)
}

// Compare orders names as a Table is ordered.
func (n Name) Compare(m Name) int { return n.compare(m) }

// Protocol is an IP protocol number.
type Protocol uint8

// The protocols a Service may have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "unknown"
}

// Service is one port of one Service, with the endpoints that answer for it.
type Service struct {
	Name     Name
	Protocol Protocol

	// Where it is reached.
	ClusterIP netip.Addr
	Port      uint16
	NodePort  uint16       // 0: none
	External  []netip.Addr // external and load balancer addresses, sorted

	// Who may call the load balancer's addresses, some of External: callers from
	// SourceRanges, sorted and none within another. No range: everybody may.
	LoadBalancer []netip.Addr
	SourceRanges []netip.Prefix

	// How its endpoints are chosen.
	Affinity      time.Duration // 0: each connection anew; else a client stays this long with its endpoint
	InternalLocal bool          // the cluster IP is answered by this node's endpoints only
	ExternalLocal bool          // so are node port and external addresses

	// HealthCheckNodePort tells load balancers how many endpoints of this node are
	// ready; 0: none tells. Those that terminate do not count, so that balancers
	// leave while they still serve.
	HealthCheckNodePort uint16
	LocalReady          int

	// Endpoints answer for all who may be sent anywhere, sorted by address.
	Endpoints []Endpoint
	// LocalEndpoints answer where a policy says Local; empty if none does.
	LocalEndpoints []Endpoint
	// Leaving are endpoints of a UDP service that still serve though no new flow is
	// sent to them: a stream they have is kept. Sorted.
	Leaving []netip.AddrPort
}

// Endpoint is where a connection ends up.
type Endpoint struct {
	Addr  netip.AddrPort
	Local bool // runs on this node
}

// equal tells whether two services would be offered alike.
func (s *Service) equal(o *Service) bool {
	return s.Name == o.Name && s.Protocol == o.Protocol &&
		s.ClusterIP == o.ClusterIP && s.Port == o.Port && s.NodePort == o.NodePort &&
		s.Affinity == o.Affinity && s.InternalLocal == o.InternalLocal && s.ExternalLocal == o.ExternalLocal &&
		s.HealthCheckNodePort == o.HealthCheckNodePort && s.LocalReady == o.LocalReady &&
		slices.Equal(s.External, o.External) &&
		slices.Equal(s.LoadBalancer, o.LoadBalancer) && slices.Equal(s.SourceRanges, o.SourceRanges) &&
		slices.Equal(s.Leaving, o.Leaving) &&
		slices.Equal(s.Endpoints, o.Endpoints) &&
		slices.Equal(s.LocalEndpoints, o.LocalEndpoints)
}
