package policy

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/testnet"
	"pilothouse.dev/pkg/testcluster"
)

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	var last error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if last = ok(); last == nil {
			return
		}
	}
	t.Fatalf("never: %s: %v", what, last)
}

// From the API to the packet, with the rights that kube-proxy has, and with the
// API server away in between.
func TestFromAPIToPacket(t *testing.T) {
	c := testcluster.Start(t)
	n := testnet.New(t, 3)
	ctx, core := t.Context(), c.Kube.CoreV1()
	server, friend, other := n.Pods[0], n.Pods[1], n.Pods[2]
	server.Serve(t, 80)
	at := netip.AddrPortFrom(server.IP, 80)

	if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := core.ServiceAccounts("shop").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var made []*corev1.Pod
	for _, p := range n.Pods {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: map[string]string{"app": p.Name}}}
		pod.Spec.NodeName, pod.Spec.Containers = "n1", []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}}
		pod, err := core.Pods("shop").Create(ctx, pod, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod.Status.Phase, pod.Status.PodIP = corev1.PodRunning, p.IP.String()
		pod.Status.PodIPs = []corev1.PodIP{{IP: p.IP.String()}, {IP: p.IP6.String()}}
		if pod, err = core.Pods("shop").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		made = append(made, pod)
	}

	conn := nfconn.New(int(n.Node.NS))
	t.Cleanup(conn.Close)
	e := New("n1", c.Clients("system:kube-proxy").Kube, NewWriter(conn, zaptest.NewLogger(t)), Periods{Min: time.Millisecond, Verify: 500 * time.Millisecond},
		func(context.Context) error { return nil }, zaptest.NewLogger(t))
	e.SetNode(&corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.7.0/24"}}})
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- e.Run(run) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})

	answered := func(from testnet.Place) func() error {
		return func() error {
			_, err := from.Call("tcp", at)
			return err
		}
	}
	silent := func(from testnet.Place) func() error { return func() error { return from.HearsNothing(at) } }

	policies := c.Kube.NetworkingV1().NetworkPolicies("shop")
	deny := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "deny"}}
	if _, err := policies.Create(ctx, deny, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is denied", silent(other))
	allow := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "allow"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": server.Name}},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "shop"}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app": friend.Name}},
		}}}},
	}}
	if _, err := policies.Create(ctx, allow, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a friend is allowed", answered(friend))
	if err := silent(other)(); err != nil {
		t.Errorf("the other: %v", err)
	}

	c.KillAPIServer()
	if err := errors.Join(answered(friend)(), silent(other)()); err != nil {
		t.Errorf("while the API server is away: %v", err)
	}
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	made[2].Labels["app"] = friend.Name
	if _, err := core.Pods("shop").Update(ctx, made[2], metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other became a friend", answered(other))
	now := int64(0)
	if err := core.Pods("shop").Delete(ctx, made[1].Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first friend is gone from the API", silent(friend))

	for _, p := range []string{"allow", "deny"} {
		if err := policies.Delete(ctx, p, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "without policies everybody is answered", answered(friend))
	eventually(t, "pods are not followed without a policy", func() error {
		if pods, filled := e.pods.count(); pods > 0 || filled {
			return errors.New("they are")
		}
		return nil
	})
	if _, err := policies.Create(ctx, deny, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "and are with one", silent(other))
}
