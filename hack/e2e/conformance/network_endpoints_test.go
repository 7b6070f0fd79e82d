//lint:file-ignore SA1019 Endpoints are deprecated for users, and still served.

package conformance

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// backed makes a service of these ports, of the pods that the selector selects.
func (r *row) backed(ns, name string, selector map[string]string, ports ...int32) *corev1.Service {
	r.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: selector}}
	for i, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("port-%d", i+1), Port: p, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(p)})
	}
	made, err := r.kube.CoreV1().Services(ns).Create(r.ctx, s, metav1.CreateOptions{})
	r.must(err, "creating a service")
	return made
}

// slicesOf are the slices of a service.
func (r *row) slicesOf(ns, service string) ([]discoveryv1.EndpointSlice, error) {
	list, err := r.kube.DiscoveryV1().EndpointSlices(ns).List(r.ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// NET-013: a service that selects pods, of which there are none, has Endpoints without addresses, which go with it.
func endpointsOfNobody(r *row) {
	ns := r.namespace()
	r.backed(ns, "empty", map[string]string{"does-not": "match"}, 80)
	endpoints := r.kube.CoreV1().Endpoints(ns)
	r.eventually("there are Endpoints", func() (bool, error) {
		got, err := endpoints.Get(r.ctx, "empty", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if len(got.Subsets) > 0 {
			return false, fmt.Errorf("they have %s", asJSON(got.Subsets))
		}
		return true, nil
	})
	r.must(r.kube.CoreV1().Services(ns).Delete(r.ctx, "empty", metav1.DeleteOptions{}), "deleting the service")
	r.eventually("there are none any more", func() (bool, error) {
		_, err := endpoints.Get(r.ctx, "empty", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

// NET-015: it has a slice without endpoints, which goes with it.
func slicesOfNobody(r *row) {
	ns := r.namespace()
	service := r.backed(ns, "empty", map[string]string{"does-not": "match"}, 80)
	r.eventually("there is a slice", func() (bool, error) {
		got, err := r.slicesOf(ns, "empty")
		if err != nil || len(got) != 1 {
			return false, fmt.Errorf("%d slices, %w", len(got), err)
		}
		s := got[0]
		r.equal("endpoints", len(s.Endpoints), 0)
		r.equal("who manages it", s.Labels[discoveryv1.LabelManagedBy], "endpointslice-controller.k8s.io")
		r.equal("its owner", metav1.IsControlledBy(&s, service), true)
		return true, nil
	})
	r.must(r.kube.CoreV1().Services(ns).Delete(r.ctx, "empty", metav1.DeleteOptions{}), "deleting the service")
	r.noSlices(ns, "empty")
}

func (r *row) noSlices(ns, service string) {
	r.Helper()
	r.eventually("there is no slice any more", func() (bool, error) {
		got, err := r.slicesOf(ns, service)
		return err == nil && len(got) == 0, err
	})
}

// handmade makes a slice of one address and one port of a service.
func (r *row) handmade(ns, service, ip, port string, number int32) {
	r.Helper()
	ready, tcp := true, corev1.ProtocolTCP
	family := discoveryv1.AddressTypeIPv4
	if strings.Contains(ip, ":") {
		family = discoveryv1.AddressTypeIPv6
	}
	_, err := r.kube.DiscoveryV1().EndpointSlices(ns).Create(r.ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{GenerateName: service + "-custom-", Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "conformance.example.com"}},
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &port, Protocol: &tcp, Port: &number}},
	}, metav1.CreateOptions{})
	r.must(err, "creating a slice")
}

// asks has a pod call URLs until all answer, and returns the answers, a line each.
func (r *row) asks(ns string, urls ...string) string {
	r.Helper()
	caller := application("caller", append([]string{"connect", "-every=10ms", "-timeout=2s"}, urls...)...)
	caller.Spec.RestartPolicy = corev1.RestartPolicyOnFailure // a proxy may not know of the slices yet
	r.reaches(ns, caller, corev1.PodSucceeded)
	return strings.TrimSpace(r.logs(ns, "caller"))
}

// NET-016: two slices of a service, made by hand, have an address each of two pods, and a port each: calls reach the one that has the
// port called.
func slicesByAddress(r *row) {
	ns := r.namespace()
	one := r.reaches(ns, application("one", "serve", "-port=3000"), corev1.PodRunning)
	two := r.reaches(ns, application("two", "serve", "-port=3001"), corev1.PodRunning)
	ip := r.backed(ns, "custom", nil, 80, 81).Spec.ClusterIP
	r.handmade(ns, "custom", one.Status.PodIP, "port-1", 3000)
	r.handmade(ns, "custom", two.Status.PodIP, "port-2", 3001)
	r.equal("who answers", r.asks(ns, "http://"+ip+":80/hostname", "http://"+ip+":81/hostname"), "one\ntwo")
	r.unmanaged(ns, "custom")
}

// NET-017: two slices have the same address, of one pod, and a port each.
func slicesByPort(r *row) {
	ns := r.namespace()
	pod := application("both", "serve", "-port=3000")
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "d", Image: pod.Spec.Containers[0].Image, Args: []string{"serve", "-port=3001"}})
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		c.Env = []corev1.EnvVar{{Name: "VERSION", Value: c.Args[1]}}
	}
	made := r.reaches(ns, pod, corev1.PodRunning)
	ip := r.backed(ns, "custom", nil, 80, 81).Spec.ClusterIP
	r.handmade(ns, "custom", made.Status.PodIP, "port-1", 3000)
	r.handmade(ns, "custom", made.Status.PodIP, "port-2", 3001)
	r.equal("who answers", r.asks(ns, "http://"+ip+":80/version", "http://"+ip+":81/version"), "-port=3000\n-port=3001")
	r.unmanaged(ns, "custom")
}

// unmanaged says that no controller has made slices of a service beside those made by hand.
func (r *row) unmanaged(ns, service string) {
	r.Helper()
	got, err := r.slicesOf(ns, service)
	r.must(err, "listing slices")
	for _, s := range got {
		r.equal("who manages "+s.Name, s.Labels[discoveryv1.LabelManagedBy], "conformance.example.com")
	}
	r.equal("slices", len(got), 2)
}

// NET-019: Endpoints made by hand, of a service that selects nothing, are mirrored, changed and deleted.
func endpointsMirrored(r *row) {
	ns := r.namespace()
	r.backed(ns, "custom", nil, 80)
	endpoints := r.kube.CoreV1().Endpoints(ns)
	made, err := endpoints.Create(r.ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "custom"}, Subsets: []corev1.EndpointSubset{{
		Ports: []corev1.EndpointPort{{Name: "example", Port: 80}}, Addresses: []corev1.EndpointAddress{{IP: "10.1.2.3"}}}}}, metav1.CreateOptions{})
	r.must(err, "creating Endpoints")
	mirrors := func(port int32, addresses ...string) {
		r.Helper()
		r.eventually(fmt.Sprintf("slices have %v and port %d", addresses, port), func() (bool, error) {
			got, err := r.slicesOf(ns, "custom")
			if err != nil {
				return false, err
			}
			var there []string
			for _, s := range got {
				r.equal("who manages "+s.Name, s.Labels[discoveryv1.LabelManagedBy], "endpointslicemirroring-controller.k8s.io")
				for _, e := range s.Endpoints {
					if *s.Ports[0].Port == port {
						there = append(there, e.Addresses...)
					}
				}
			}
			slices.Sort(there)
			if !slices.Equal(there, addresses) {
				return false, fmt.Errorf("there are %s", asJSON(got))
			}
			return true, nil
		})
	}
	mirrors(80, "10.1.2.3")
	r.again("updating Endpoints", func() error {
		got, err := endpoints.Get(r.ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Subsets[0].Addresses = []corev1.EndpointAddress{{IP: "10.2.3.4"}, {IP: "10.2.3.5"}}
		got.Subsets[0].Ports[0].Port = 81
		_, err = endpoints.Update(r.ctx, got, metav1.UpdateOptions{})
		return err
	})
	mirrors(81, "10.2.3.4", "10.2.3.5")
	r.must(endpoints.Delete(r.ctx, made.Name, metav1.DeleteOptions{}), "deleting Endpoints")
	r.noSlices(ns, "custom")
}
