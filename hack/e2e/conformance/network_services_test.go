//lint:file-ignore SA1019 Endpoints are deprecated for users, and still served.

package conformance

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// NET-030: a service of type NodePort is reached by its name, at its address and at its port of every node; from a pod, and from a node.
func nodePortService(r *row) {
	ns := r.namespace()
	names := r.replicas(ns, "nodeport", "nodeport", 2, "9376")
	s := r.service(ns, "nodeport-test", "nodeport", func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort }, port("http", 80, 9376, corev1.ProtocolTCP))
	if s.Spec.Ports[0].NodePort == 0 {
		r.Fatal("the service has no node port")
	}
	r.endpointsAre(ns, s.Name, names[0]+":9376", names[1]+":9376")
	r.makeCaller(ns, "caller", nil, 0).resolves().answered("a service of type NodePort", r.addresses(s), names...)
	places := r.places()
	urls := slices.DeleteFunc(r.addresses(s), func(u string) bool { return u == "http://nodeport-test:80" }) // a node has its own resolver
	r.makeCaller(ns, "on-node", &places[0], 18430).answered("a service of type NodePort", urls, names...)
}

// NET-038: a service follows its pods, as they come and go.
func serviceFollowsPods(r *row) {
	ns := r.namespace()
	s := r.service(ns, "endpoint-test", "endpoint-test", nil, port("", 80, 80, corev1.ProtocolTCP))
	c := r.makeCaller(ns, "caller", nil, 0).resolves()
	urls := r.addresses(s)
	r.endpointsAre(ns, s.Name)
	r.several(ns, answering("pod1", "endpoint-test", "80"))
	r.endpointsAre(ns, s.Name, "pod1:80")
	c.answered("a service of one pod", urls, "pod1")
	r.several(ns, answering("pod2", "endpoint-test", "80"))
	r.endpointsAre(ns, s.Name, "pod1:80", "pod2:80")
	c.answered("a service of two pods", urls, "pod1", "pod2")
	r.removed(ns, "pod1")
	r.endpointsAre(ns, s.Name, "pod2:80")
	c.answered("a service of the other pod", urls, "pod2")
	r.removed(ns, "pod2")
	r.endpointsAre(ns, s.Name)
	c.unanswered("a service of no pod", urls...)
}

// NET-039: one port serves TCP and UDP; either can be taken away, and the other stays.
func serviceOfTwoProtocols(r *row) {
	ns := r.namespace()
	tcp, udp := port("tcp-port", 80, 80, corev1.ProtocolTCP), port("udp-port", 80, 80, corev1.ProtocolUDP)
	r.several(ns, answering("both", "multiprotocol", "80", "udp:80"))
	s := r.service(ns, "multiprotocol-test", "multiprotocol", nil, tcp, udp)
	c := r.makeCaller(ns, "caller", nil, 0).resolves()
	r.endpointsAre(ns, s.Name, "both:80", "both:80")
	c.answered("a service of two protocols", r.addresses(s), "both")
	overTCP, overUDP := "http://"+net.JoinHostPort(s.Spec.ClusterIP, "80"), "udp://"+net.JoinHostPort(s.Spec.ClusterIP, "80")
	r.changed(s, func(s *corev1.ServiceSpec) { s.Ports = []corev1.ServicePort{tcp} })
	c.unanswered("UDP that was taken away", overUDP)
	c.answered("TCP that was left", []string{overTCP}, "both")
	r.changed(s, func(s *corev1.ServiceSpec) { s.Ports = []corev1.ServicePort{udp} })
	c.unanswered("TCP that was taken away", overTCP)
	c.answered("UDP that came back", []string{overUDP}, "both")
}

// NET-040: a service of two ports sends each to where it belongs, as pods come and go that have both, or one each.
func serviceOfTwoPorts(r *row) {
	ns := r.namespace()
	s := r.service(ns, "multi-endpoint-test", "multi", nil, port("portname1", 80, 100, corev1.ProtocolTCP), port("portname2", 81, 101, corev1.ProtocolTCP))
	c := r.makeCaller(ns, "caller", nil, 0).resolves()
	first, second := r.addresses(s)[:2], r.addresses(s)[2:]
	r.endpointsAre(ns, s.Name)
	// Both pods are endpoints of both ports: that nobody listens there is not known to the service.
	r.several(ns, answering("pod1", "multi", "100=pod1-100", "101=pod1-101"))
	r.endpointsAre(ns, s.Name, "pod1:100", "pod1:101")
	c.answered("the first port", first, "pod1-100")
	c.answered("the second port", second, "pod1-101")
	r.several(ns, answering("pod2", "multi", "100=pod2-100", "101=pod2-101"))
	r.endpointsAre(ns, s.Name, "pod1:100", "pod1:101", "pod2:100", "pod2:101")
	c.answered("the first port", first, "pod1-100", "pod2-100")
	c.answered("the second port", second, "pod1-101", "pod2-101")
	r.removed(ns, "pod1")
	r.endpointsAre(ns, s.Name, "pod2:100", "pod2:101")
	c.answered("the first port", first, "pod2-100")
	c.answered("the second port", second, "pod2-101")
	r.removed(ns, "pod2")
	r.endpointsAre(ns, s.Name)
	c.unanswered("ports of no pod", slices.Concat(first, second)...)
}

// affinity is a row of a service of three pods with session affinity by client, at its address or at a node's port: calls of one client are
// answered by one pod, and, where the affinity is switched, by several while it is off.
func affinity(kind corev1.ServiceType, switched bool) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		names := r.replicas(ns, "affinity", "affinity", 3, "9376")
		s := r.service(ns, "affinity", "affinity", func(s *corev1.ServiceSpec) {
			s.Type, s.SessionAffinity = kind, corev1.ServiceAffinityClientIP
		}, port("", 80, 9376, corev1.ProtocolTCP))
		r.equal("seconds of the affinity, by default", *s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds, int32(10800))
		r.endpointsAre(ns, s.Name, names[0]+":9376", names[1]+":9376", names[2]+":9376")
		places := r.places()
		clients := []*caller{r.makeCaller(ns, "caller-a", &places[0], 0), r.makeCaller(ns, "caller-b", &places[len(places)-1], 0)}
		urls := []string{"http://" + net.JoinHostPort(s.Spec.ClusterIP, "80")}
		if kind == corev1.ServiceTypeNodePort {
			urls = []string{"http://" + net.JoinHostPort(places[0].ip, strconv.Itoa(int(s.Spec.Ports[0].NodePort)))}
		}
		sticks := func(doing string) {
			r.Helper()
			for _, c := range clients {
				who := ""
				r.settles(c.name+": one pod answers all calls "+doing, func() (bool, error) {
					h, err := c.calls(15, urls...)
					if err != nil {
						return false, err
					}
					who, err = h.oneOf()
					return err == nil, err
				})
				h, err := c.calls(15, urls...)
				r.must(err, "calling again "+doing)
				again, err := h.oneOf()
				r.must(err, "calling again "+doing)
				r.equal(c.name+": who answers later "+doing, again, who)
			}
		}
		sticks("with the affinity")
		if !switched {
			return
		}
		s = r.changed(s, func(s *corev1.ServiceSpec) {
			s.SessionAffinity, s.SessionAffinityConfig = corev1.ServiceAffinityNone, nil
		})
		r.equal("affinity after it was switched off", s.Spec.SessionAffinity, corev1.ServiceAffinityNone)
		for _, c := range clients {
			c.answered("without affinity", urls, names...)
		}
		r.changed(s, func(s *corev1.ServiceSpec) { s.SessionAffinity = corev1.ServiceAffinityClientIP })
		sticks("after it was switched on again")
	}
}

// NET-043: from the making of a service to its endpoints, 200 times, 15 at once: half of them within 20 s and all but one in a hundred
// within 50 s.
func endpointLatency(r *row) {
	const trials, together = 200, 15
	ns := r.namespace()
	r.several(ns, func() *corev1.Pod {
		p := application("one", "pause")
		p.Labels = map[string]string{rowLabel: "latency"}
		return p
	}())
	w, err := r.kube.CoreV1().Endpoints(ns).Watch(r.ctx, metav1.ListOptions{})
	r.must(err, "watching Endpoints")
	defer w.Stop()
	var mu sync.Mutex
	seen := map[string]chan struct{}{} // guarded by mu; closed when a service's first endpoint is there
	at := func(name string) chan struct{} {
		mu.Lock()
		defer mu.Unlock()
		if seen[name] == nil {
			seen[name] = make(chan struct{})
		}
		return seen[name]
	}
	go func() { // until the watch is stopped
		for e := range w.ResultChan() {
			if got, is := e.Object.(*corev1.Endpoints); is && e.Type != watch.Deleted && len(got.Subsets) > 0 && len(got.Subsets[0].Addresses) > 0 {
				c := at(got.Name)
				select {
				case <-c:
				default:
					close(c)
				}
			}
		}
	}()
	try := func(i int) (time.Duration, error) {
		name := fmt.Sprintf("latency-svc-%d", i)
		began := time.Now()
		_, err := r.kube.CoreV1().Services(ns).Create(r.ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{rowLabel: "latency"}, Ports: []corev1.ServicePort{port("", 80, 80, corev1.ProtocolTCP)}},
		}, metav1.CreateOptions{})
		if err != nil {
			return 0, err
		}
		select {
		case <-at(name):
			return time.Since(began), nil
		case <-time.After(time.Minute):
			return 0, fmt.Errorf("service %s has no endpoint after a minute", name)
		}
	}
	_, err = try(trials)
	r.must(err, "making a first service")
	took := make([]time.Duration, trials)
	errs := make([]error, trials)
	var all sync.WaitGroup
	slots := make(chan struct{}, together)
	for i := range trials {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			took[i], errs[i] = try(i)
		})
	}
	all.Wait()
	r.must(cmp.Or(errs...), "making services")
	slices.Sort(took)
	half, most, tail := took[trials/2], took[trials*90/100], took[trials*99/100]
	r.Logf("from service to endpoints, p50 p90 p99: %v %v %v", half, most, tail)
	if half > 20*time.Second || tail > 50*time.Second {
		r.Errorf("from service to endpoints took %v in the middle and %v at the end", half, tail)
	}
}
