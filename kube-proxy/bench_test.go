package main

import (
	"fmt"
	"sort"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kube-proxy/testnet"
	"pilothouse.dev/pkg/testcluster"
)

// endpointsOf is a slice as the controller writes it.
func endpointsOf(i, n int) *discoveryv1.EndpointSlice {
	name := fmt.Sprintf("service-%05d", i)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-abcde", GenerateName: name + "-", Labels: map[string]string{
			discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io", "app.kubernetes.io/name": name,
		}, Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr[int32](8080), Protocol: ptr(corev1.ProtocolTCP)}},
	}
	for j := range n {
		e := i*n + j
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", e>>8&255, e&255)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
			NodeName:   ptr(fmt.Sprintf("node-%03d", e%200)), Zone: ptr("zone-a"),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("%s-%d", name, j), UID: "0b5b0f5e-3c7d-4a6b-9d7c-6a1c1f6f3e2a"},
		})
	}
	return s
}

// BenchmarkDaemon is the daemon as a process, with a real API server: its memory
// when it has nothing to do, without services and with 10,000 of them with five
// endpoints each, and what a change costs it.
func BenchmarkDaemon(b *testing.B) {
	for _, many := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("%d services", many), func(b *testing.B) {
			c := testcluster.Start(b)
			ctx := b.Context()
			if _, err := c.Kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
			slices, services := c.Kube.DiscoveryV1().EndpointSlices("default"), c.Kube.CoreV1().Services("default")
			var all sync.WaitGroup
			next := make(chan int)
			for range 16 {
				all.Go(func() {
					for i := range next {
						name := fmt.Sprintf("service-%05d", i)
						_, err := services.Create(ctx, &corev1.Service{
							ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/name": name}},
							Spec: corev1.ServiceSpec{Selector: map[string]string{"app.kubernetes.io/name": name}, Ports: []corev1.ServicePort{
								{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
						}, metav1.CreateOptions{})
						if err == nil {
							_, err = slices.Create(ctx, endpointsOf(i, 5), metav1.CreateOptions{})
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := range many {
				next <- i
			}
			close(next)
			all.Wait()

			n := testnet.New(b, 0)
			apiInside(b, n.Node, c)
			d := start(b, n.Node, binary(b), c.Kubeconfig("system:kube-proxy", "system:node-proxier"))
			for d.healthy() != nil {
				time.Sleep(10 * time.Millisecond)
			}
			cpu, begun := d.processor(b), d.resident(b)
			time.Sleep(7 * time.Second) // it gives memory back when idle
			idle := d.resident(b)

			slice, err := slices.Get(ctx, "service-00005-abcde", metav1.GetOptions{})
			if err != nil {
				b.Fatal(err)
			}
			before := d.processor(b)
			changes := 0
			var took []float64
			for b.Loop() {
				began := time.Now()
				ready := changes%2 == 1
				slice.Endpoints[0].Conditions.Ready, slice.Endpoints[0].Conditions.Serving = &ready, &ready
				if slice, err = slices.Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began).Seconds())
				changes++
				time.Sleep(25 * time.Millisecond) // so that it writes each by itself
			}
			sort.Float64s(took)
			b.ReportMetric(cpu.Seconds()*1000, "start-cpu-ms")
			b.ReportMetric(float64(begun)/1e6, "start-MB")
			b.ReportMetric(float64(idle)/1e6, "idle-MB")
			b.ReportMetric((d.processor(b)-before).Seconds()*1000/float64(changes), "cpu-ms/change")
			b.ReportMetric(float64(d.resident(b))/1e6, "busy-MB")
			b.ReportMetric(took[len(took)/2]*1000, "api-ms")
		})
	}
}
