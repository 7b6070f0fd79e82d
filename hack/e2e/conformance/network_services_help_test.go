//lint:file-ignore SA1019 Endpoints are deprecated for users, and still served.

package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Rows about what services and the pod network do with packets: pods that call others when they are asked to, pods that answer with
// their name, and services between them.

// domain is the cluster's, below which services have names.
const domain = "cluster.local"

// place is a node that can have any pod, and its address.
type place struct{ name, ip string }

// places are the nodes that are ready, schedulable and without a taint.
func (r *row) places() (all []place) {
	r.Helper()
	nodes, err := r.kube.CoreV1().Nodes().List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing nodes")
	for _, n := range nodes.Items {
		isReady := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		tainted := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectPreferNoSchedule })
		at := slices.IndexFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeInternalIP })
		if isReady && !tainted && !n.Spec.Unschedulable && at >= 0 {
			all = append(all, place{n.Name, n.Status.Addresses[at].Address})
		}
	}
	if len(all) == 0 {
		r.Fatal("no node can have a pod")
	}
	return all
}

// at is a pod on that node.
func at(p place, pod *corev1.Pod) *corev1.Pod {
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: p.name}
	return pod
}

// caller is a pod that calls others when it is asked to.
type caller struct {
	*row
	ns, name, port string
	ip             string
}

// makeCaller starts one in a namespace; with a host port it is on its node's network and listens there.
func (r *row) makeCaller(ns, name string, on *place, hostPort int) *caller {
	r.Helper()
	port := 8080
	if hostPort != 0 {
		port = hostPort
	}
	pod := application(name, "serve", fmt.Sprintf("-port=%d", port))
	pod.Spec.HostNetwork = hostPort != 0
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt(port)}}}
	if on != nil {
		at(*on, pod)
	}
	got := r.podIs(ns, pod, "is ready", ready)
	return &caller{row: r, ns: ns, name: name, port: strconv.Itoa(port), ip: got.Status.PodIP}
}

// resolves ends the test when the cluster has no DNS: else every name would be waited for.
func (c *caller) resolves() *caller {
	c.Helper()
	c.eventually("the name kubernetes.default is known", func() (bool, error) {
		h, err := c.calls(1, "tcp://kubernetes.default:443")
		if err == nil && strings.Contains(strings.Join(h.Errors, " "), "lookup") {
			err = fmt.Errorf("%s", h.Errors[0])
		}
		return err == nil, err
	})
	return c
}

// heard are the answers and failures of the calls that a caller made.
type heard struct {
	Answers []string `json:"answers"`
	Errors  []string `json:"errors"`
}

// count says how often each answer came.
func (h heard) count() map[string]int {
	sum := map[string]int{}
	for _, a := range h.Answers {
		sum[a]++
	}
	return sum
}

// calls has the caller call each URL (http://, tcp:// or udp://) so many times.
func (c *caller) calls(tries int, urls ...string) (h heard, err error) {
	q := c.kube.CoreV1().RESTClient().Get().Namespace(c.ns).Resource("pods").Name(net.JoinHostPort(c.name, c.port)).SubResource("proxy").
		Suffix("dial").Param("tries", strconv.Itoa(tries)).Param("text", "hello")
	for _, u := range urls {
		q = q.Param("url", u)
	}
	body, err := q.DoRaw(c.ctx)
	if err != nil {
		return h, fmt.Errorf("asking %s to call %v: %w", c.name, urls, err)
	}
	return h, json.Unmarshal(body, &h)
}

// answered waits until of several calls of each URL none fails, each is answered by one of these, and each of these answers one.
func (c *caller) answered(what string, urls []string, by ...string) {
	c.Helper()
	slices.Sort(by)
	for _, u := range urls {
		c.settles(fmt.Sprintf("%s: from %s to %s is answered by %v", what, c.name, u, by), func() (bool, error) {
			h, err := c.calls(6*len(by), u)
			if err != nil {
				return false, err
			}
			got := h.count()
			if len(h.Errors) > 0 || !slices.Equal(slices.Sorted(maps.Keys(got)), by) {
				return false, fmt.Errorf("answers %v, failures %q", got, h.Errors)
			}
			return true, nil
		})
	}
}

// unanswered waits until no call of any of the URLs is answered.
func (c *caller) unanswered(what string, urls ...string) {
	c.Helper()
	c.settles(fmt.Sprintf("%s: from %s to %v is not answered", what, c.name, urls), func() (bool, error) {
		h, err := c.calls(2, urls...)
		if err == nil && len(h.Answers) > 0 {
			err = fmt.Errorf("answers %v", h.count())
		}
		return err == nil && len(h.Errors) > 0, err
	})
}

// answering is a pod that answers with its name on these ports (see testapp's ports), with a label.
func answering(name, label string, ports ...string) *corev1.Pod {
	pod := application(name, append([]string{"ports"}, ports...)...)
	pod.Labels = map[string]string{rowLabel: label}
	return pod
}

// several starts answering pods side by side and waits until all are ready.
func (r *row) several(ns string, pods ...*corev1.Pod) (made []*corev1.Pod) {
	r.Helper()
	for _, p := range pods {
		_, err := r.kube.CoreV1().Pods(ns).Create(r.ctx, p, metav1.CreateOptions{})
		r.must(err, "creating pod "+p.Name)
	}
	for _, p := range pods {
		made = append(made, r.becomes(ns, p.Name, "is ready", func(p *corev1.Pod) bool { return ready(p) && p.Status.PodIP != "" }))
	}
	return made
}

// replicas are so many answering pods, with their names.
func (r *row) replicas(ns, prefix, label string, n int, ports ...string) (names []string) {
	r.Helper()
	var pods []*corev1.Pod
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i+1))
		pods = append(pods, answering(names[i], label, ports...))
	}
	r.several(ns, pods...)
	return names
}

// port is a service's.
func port(name string, number, target int32, protocol corev1.Protocol) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromInt32(target), Protocol: protocol}
}

// service makes one for the pods with a label.
func (r *row) service(ns, name, label string, change func(*corev1.ServiceSpec), ports ...corev1.ServicePort) *corev1.Service {
	r.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{rowLabel: label}, Ports: ports}}
	if change != nil {
		change(&s.Spec)
	}
	made, err := r.kube.CoreV1().Services(ns).Create(r.ctx, s, metav1.CreateOptions{})
	r.must(err, "creating service "+name)
	return made
}

// changed updates a service.
func (r *row) changed(s *corev1.Service, change func(*corev1.ServiceSpec)) (now *corev1.Service) {
	r.Helper()
	r.again("updating service "+s.Name, func() error {
		got, err := r.kube.CoreV1().Services(s.Namespace).Get(r.ctx, s.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(&got.Spec)
		now, err = r.kube.CoreV1().Services(s.Namespace).Update(r.ctx, got, metav1.UpdateOptions{})
		return err
	})
	return now
}

// addresses are where each port of a service is to be reached: by name, at its cluster IP and, with a node port, at every node.
func (r *row) addresses(s *corev1.Service) (urls []string) {
	r.Helper()
	for _, p := range s.Spec.Ports {
		scheme := map[corev1.Protocol]string{corev1.ProtocolTCP: "http://", corev1.ProtocolUDP: "udp://"}[p.Protocol]
		number := strconv.Itoa(int(p.Port))
		urls = append(urls, scheme+net.JoinHostPort(s.Name, number), scheme+net.JoinHostPort(s.Spec.ClusterIP, number))
		if p.NodePort != 0 {
			for _, n := range r.places() {
				urls = append(urls, scheme+net.JoinHostPort(n.ip, strconv.Itoa(int(p.NodePort))))
			}
		}
	}
	return urls
}

// endpointsAre waits until a service has exactly these ready endpoints, POD:PORT, in its Endpoints and in its slices.
func (r *row) endpointsAre(ns, service string, want ...string) {
	r.Helper()
	slices.Sort(want)
	r.settles(fmt.Sprintf("service %s has the endpoints %v", service, want), func() (bool, error) {
		old, err := r.kube.CoreV1().Endpoints(ns).Get(r.ctx, service, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		var inEndpoints []string
		for _, s := range old.Subsets {
			for _, a := range s.Addresses {
				for _, p := range s.Ports {
					inEndpoints = append(inEndpoints, fmt.Sprintf("%s:%d", targetName(a.TargetRef), p.Port))
				}
			}
		}
		list, err := r.slicesOf(ns, service)
		if err != nil {
			return false, err
		}
		inSlices := readyIn(list)
		slices.Sort(inEndpoints)
		if !slices.Equal(inEndpoints, want) || !slices.Equal(inSlices, want) {
			return false, fmt.Errorf("Endpoints have %v, slices %v", inEndpoints, inSlices)
		}
		return true, nil
	})
}

func readyIn(list []discoveryv1.EndpointSlice) (all []string) {
	for _, s := range list {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, p := range s.Ports {
				all = append(all, fmt.Sprintf("%s:%d", targetName(e.TargetRef), *p.Port))
			}
		}
	}
	slices.Sort(all)
	return all
}

func targetName(ref *corev1.ObjectReference) string {
	if ref == nil {
		return ""
	}
	return ref.Name
}

// removed deletes a pod and waits until it is gone.
func (r *row) removed(ns, pod string) {
	r.Helper()
	r.must(r.kube.CoreV1().Pods(ns).Delete(r.ctx, pod, metav1.DeleteOptions{}), "deleting pod "+pod)
	r.podGone(ns, pod)
}

// oneOf says whether all answers are one and the same, of calls that all went well.
func (h heard) oneOf() (string, error) {
	if got := h.count(); len(h.Errors) > 0 || len(got) != 1 {
		return "", errors.New(strings.TrimSpace(fmt.Sprint("answers ", got, " ", strings.Join(h.Errors, "; "))))
	}
	return h.Answers[0], nil
}
