package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestLoadBalancers is a pool of two addresses and the services that want them.
func TestLoadBalancers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--load-balancer-cidr=198.51.100.0/30", "--controllers=service-lb,endpointslice,serviceaccount,namespace,servicecidr")
	w.sub("balanced", testLoadBalancers)
}

func testLoadBalancers(w *world, ns string) {
	ctx, services := w.Context(), w.kube.CoreV1().Services(ns)
	balanced := func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }
	has := func(name, want string) func() error {
		return func() error {
			s, err := services.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			got := ""
			for _, in := range s.Status.LoadBalancer.Ingress {
				got += in.IP + " " + string(*in.IPMode)
			}
			if c := meta.FindStatusCondition(s.Status.Conditions, "pilothouse.dev/LoadBalancerAddress"); c != nil {
				got += c.Reason
			}
			if slices.Contains(s.Finalizers, "service.kubernetes.io/load-balancer-cleanup") {
				got += " kept"
			}
			return same(name, got, want)
		}
	}
	patch := func(name, body string, sub ...string) {
		w.Helper()
		must(services.Patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{}, sub...))(w)
	}
	w.service(ns, "one", nil, balanced)
	w.until("the first address", has("one", "198.51.100.1 VIP kept"))
	w.service(ns, "two", nil, balanced)
	w.until("the second address", has("two", "198.51.100.2 VIP kept"))
	other := "example.com/other"
	w.service(ns, "foreign", nil, balanced, func(s *corev1.Service) { s.Spec.LoadBalancerClass = &other })
	w.service(ns, "three", nil, balanced)
	w.until("that there is none", has("three", "PoolExhausted kept"))
	w.until("the event that says so", func() error {
		for _, reason := range []string{"SyncLoadBalancerFailed", "EnsuredLoadBalancer", "EnsuringLoadBalancer"} {
			list, err := w.kube.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
			if err != nil || len(list.Items) == 0 {
				return fmt.Errorf("events %s: %d, %w", reason, len(list.Items), errors.Join(err))
			}
		}
		return nil
	})

	// A person takes an address away from the service that has it.
	patch("two", `{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.1"}]}}}`, "status")
	w.until("that it is the older's", has("two", "198.51.100.2 VIP kept"))
	w.until("that the older keeps it", has("one", "198.51.100.1 VIP kept"))
	patch("two", `{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9"}]}}}`, "status")
	w.until("an address of the pool again", func() error {
		return errors.Join(has("two", "198.51.100.2 VIP kept")(), has("three", "PoolExhausted kept")())
	})

	// What becomes free is given to who waits.
	patch("one", `{"spec":{"type":"ClusterIP"}}`)
	w.until("the address given back", has("one", ""))
	w.until("the one who waited", has("three", "198.51.100.1 VIP kept"))
	if err := services.Delete(ctx, "two", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the end of the second", func() error {
		if _, err := services.Get(ctx, "two", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
	w.service(ns, "asks", nil, balanced, func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.1" })
	w.until("that it is taken", has("asks", "AddressTaken kept"))
	patch("three", `{"spec":{"type":"ClusterIP"}}`)
	w.until("what was asked for", has("asks", "198.51.100.1 VIP kept"))
	if err := has("foreign", "")(); err != nil {
		w.Error(err)
	}
}
