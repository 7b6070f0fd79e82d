package nodelifecycle

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Rates say how fast nodes may be given the taint that ends their pods: a fault of many nodes at once is rarely theirs. The rules
// are those of https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction.
type Rates struct {
	Usual     float64 // nodes a second in a zone that is well, or altogether gone while others are well
	Secondary float64 // in a large zone, much of which is unwell
	Large     int     // a zone with more nodes is large; in a small one, much of which is unwell, nothing is evicted
	Unwell    float64 // much is this part of the zone, and three nodes at least
}

// zoneOf names the zone of a node.
func zoneOf(n *corev1.Node) string {
	region, zone := n.Labels[corev1.LabelTopologyRegion], n.Labels[corev1.LabelTopologyZone]
	if region == "" && zone == "" {
		return ""
	}
	return region + ":" + zone
}

// census is how the zones are.
type census map[string]*zone

type zone struct{ size, bad int }

// take counts the nodes that are silent, as last decided, or not ready by their own account. One that just registered is neither.
func take(nodes []*corev1.Node, silent func(node string) bool) census {
	c := census{}
	for _, n := range nodes {
		z := c[zoneOf(n)]
		if z == nil {
			z = &zone{}
			c[zoneOf(n)] = z
		}
		z.size++
		if r := readiness(n); silent(n.Name) || r == corev1.ConditionFalse || r == corev1.ConditionUnknown {
			z.bad++
		}
	}
	return c
}

// counted keeps a census for as long as nothing is said to have changed: every silent node asks for it, again and again. Safe for
// concurrent use; the census is shared.
type counted struct {
	mu    sync.Mutex
	of    string // guarded by mu, as zones: what it is a census of
	zones census
}

// take gives the census kept, or a new one and the former.
func (c *counted) take(of string, count func() (census, error)) (zones, former census, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.zones != nil && c.of == of {
		return c.zones, c.zones, nil
	}
	if zones, err = count(); err != nil {
		return nil, nil, err
	}
	former, c.zones, c.of = c.zones, zones, of
	return zones, former, nil
}

// rate is how many nodes of a zone may be evicted a second, now; 0: none.
func (c census) rate(name string, r Rates) float64 {
	z := c[name]
	if z == nil {
		return r.Usual
	}
	dark := true
	for _, other := range c {
		dark = dark && other.bad == other.size
	}
	switch much := z.bad >= 3 && float64(z.bad) >= r.Unwell*float64(z.size); {
	case dark: // nobody is well: it is us, or the network
		return 0
	case z.bad == z.size:
		return r.Usual
	case much && z.size > r.Large:
		return r.Secondary
	case much:
		return 0
	}
	return r.Usual
}

// limits spaces evictions out, a zone for itself. Safe for concurrent use.
type limits struct {
	mu   sync.Mutex
	next map[string]time.Time // guarded by mu: when the next node of a zone may be evicted
}

func newLimits() *limits { return &limits{next: map[string]time.Time{}} }

// take allows one eviction now, or says after how long to ask again.
func (l *limits) take(zone string, rate float64, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next := l.next[zone]; now.Before(next) {
		return next.Sub(now)
	}
	l.next[zone] = now.Add(time.Duration(float64(time.Second) / rate))
	return 0
}
