package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/testcluster"
)

const (
	fourRange = "10.96.0.0/24"
	sixRange  = "fd00:96::/112"
)

// TestFamilies is what services are in clusters of one and of both families, in either order.
func TestFamilies(t *testing.T) {
	for _, tc := range []struct {
		ranges, advertise string
		kubernetes        string // the first service and who is behind it
		prefers           []corev1.IPFamily
	}{
		{fourRange, "192.0.2.1", "[IPv4] [10.96.0.1] IPv4 192.0.2.1", []corev1.IPFamily{"IPv4"}},
		{sixRange, "2001:db8::1", "[IPv6] [fd00:96::1] IPv6 2001:db8::1", []corev1.IPFamily{"IPv6"}},
		{fourRange + "," + sixRange, "192.0.2.1", "[IPv4] [10.96.0.1] IPv4 192.0.2.1", []corev1.IPFamily{"IPv4", "IPv6"}},
		{sixRange + "," + fourRange, "2001:db8::1", "[IPv6] [fd00:96::1] IPv6 2001:db8::1", []corev1.IPFamily{"IPv6", "IPv4"}},
	} {
		t.Run(fmt.Sprint(tc.prefers), func(t *testing.T) {
			t.Parallel()
			c := testcluster.Start(t, "--service-cluster-ip-range="+tc.ranges, "--advertise-address="+tc.advertise)
			ctx, services := t.Context(), c.Kube.CoreV1().Services("default")
			until(t, "the API server's own address to stand behind the first service", func() bool {
				s, err1 := services.Get(ctx, "kubernetes", metav1.GetOptions{})
				e, err2 := c.Kube.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
				return err1 == nil && err2 == nil &&
					fmt.Sprint(s.Spec.IPFamilies, " ", s.Spec.ClusterIPs, " ", e.AddressType, " ", e.Endpoints[0].Addresses[0]) == tc.kubernetes
			})
			until(t, "the ranges", func() bool {
				r, err := c.Kube.NetworkingV1().ServiceCIDRs().Get(ctx, "kubernetes", metav1.GetOptions{})
				return err == nil && strings.Join(r.Spec.CIDRs, ",") == tc.ranges && len(r.Status.Conditions) == 1
			})
			made := make(map[string]*corev1.Service)
			for name, policy := range map[string]corev1.IPFamilyPolicy{"single": corev1.IPFamilyPolicySingleStack, "either": corev1.IPFamilyPolicyPreferDualStack} {
				s, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
					IPFamilyPolicy: &policy, Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}},
				}}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				made[name] = s
				checkFamilies(t, c.Kube, s)
			}
			if got := made["either"].Spec.IPFamilies; !slices.Equal(got, tc.prefers) {
				t.Errorf("one that prefers two has %v", got)
			}
			if got := made["single"].Spec.IPFamilies; !slices.Equal(got, tc.prefers[:1]) {
				t.Errorf("one that wants one has %v", got)
			}
			_, err := services.Patch(ctx, "single", types.MergePatchType, []byte(`{"spec":{"ipFamilyPolicy":"RequireDualStack"}}`), metav1.PatchOptions{})
			if len(tc.prefers) == 1 {
				if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "this cluster is not configured for dual-stack services") {
					t.Errorf("two families of a cluster of one: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			stepThroughFamilies(t, c.Kube)
		})
	}
}

// stepThroughFamilies makes of the service single, which has two families now, one of one, and again of two.
func stepThroughFamilies(t *testing.T, kube kubernetes.Interface) {
	ctx, services := t.Context(), kube.CoreV1().Services("default")
	two, err := services.Get(ctx, "single", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkFamilies(t, kube, two)
	if len(two.Spec.ClusterIPs) != 2 {
		t.Fatalf("has %v", two.Spec.ClusterIPs)
	}
	for patch, words := range map[string]string{
		fmt.Sprintf(`{"spec":{"clusterIPs":[%q]}}`, two.Spec.ClusterIPs[0]):                                "must be 'SingleStack' to release the secondary cluster IP",
		fmt.Sprintf(`{"spec":{"ipFamilies":[%q]}}`, two.Spec.IPFamilies[0]):                                "must be 'SingleStack' to release the secondary IP family",
		fmt.Sprintf(`{"spec":{"clusterIPs":[%q,%q]}}`, two.Spec.ClusterIPs[1], two.Spec.ClusterIPs[0]):     "may not change once set",
		`{"spec":{"ipFamilies":["IPv6","IPv6"]}}`:                                                          "spec.ipFamilies[1]: Duplicate value: \"IPv6\"",
		`{"spec":{"ipFamilyPolicy":"Dual"}}`:                                                               "spec.ipFamilyPolicy: Unsupported value: \"Dual\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
		fmt.Sprintf(`{"spec":{"ipFamilies":[%q,%q]}}`, two.Spec.IPFamilies[1], two.Spec.IPFamilies[0]):     "as indicated by `ipFamilies[0]`",
		fmt.Sprintf(`{"spec":{"clusterIPs":[%q,"fd00:96::2","10.96.0.2"]}}`, two.Spec.ClusterIPs[0]):       "may only hold up to 2 values",
		fmt.Sprintf(`{"spec":{"ipFamilyPolicy":"SingleStack","clusterIPs":[%q]}}`, two.Spec.ClusterIPs[1]): "may not change once set",
		fmt.Sprintf(`{"spec":{"ipFamilyPolicy":"SingleStack","ipFamilies":[%q]}}`, two.Spec.IPFamilies[1]): "may not change once set",
		fmt.Sprintf(`{"spec":{"clusterIP":"None","clusterIPs":["None",%q]}}`, two.Spec.ClusterIPs[1]):      "'None' must be the first and only value",
	} {
		_, err := services.Patch(ctx, "single", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %s", patch, err, words)
		}
	}
	again, err := services.Get(ctx, "single", metav1.GetOptions{})
	if err != nil || !slices.Equal(again.Spec.ClusterIPs, two.Spec.ClusterIPs) {
		t.Errorf("after what was refused: %v, %v", again.Spec.ClusterIPs, err)
	}
	checkFamilies(t, kube, again)
	one, err := services.Patch(ctx, "single", types.MergePatchType, []byte(`{"spec":{"ipFamilyPolicy":"SingleStack"}}`), metav1.PatchOptions{})
	if err != nil || !slices.Equal(one.Spec.ClusterIPs, two.Spec.ClusterIPs[:1]) || !slices.Equal(one.Spec.IPFamilies, two.Spec.IPFamilies[:1]) {
		t.Fatalf("of one family again: %v %v, %v", one.Spec.ClusterIPs, one.Spec.IPFamilies, err)
	}
	until(t, "the second address to be free", func() bool {
		_, err := kube.NetworkingV1().IPAddresses().Get(ctx, two.Spec.ClusterIPs[1], metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	asked := fmt.Sprintf(`{"spec":{"ipFamilyPolicy":"RequireDualStack","clusterIPs":[%q,%q]}}`, two.Spec.ClusterIPs[0], two.Spec.ClusterIPs[1])
	if two, err = services.Patch(ctx, "single", types.MergePatchType, []byte(asked), metav1.PatchOptions{}); err != nil {
		t.Fatalf("the same second address again: %v", err)
	}
	checkFamilies(t, kube, two)
}

// checkFamilies finds each address of a service among the IPAddresses, as the service's and of its family.
func checkFamilies(t *testing.T, kube kubernetes.Interface, s *corev1.Service) {
	t.Helper()
	if len(s.Spec.ClusterIPs) != len(s.Spec.IPFamilies) || s.Spec.ClusterIP != s.Spec.ClusterIPs[0] {
		t.Errorf("%s has %v of %v, first %s", s.Name, s.Spec.ClusterIPs, s.Spec.IPFamilies, s.Spec.ClusterIP)
		return
	}
	for i, ip := range s.Spec.ClusterIPs {
		o, err := kube.NetworkingV1().IPAddresses().Get(t.Context(), ip, metav1.GetOptions{})
		if err != nil {
			t.Errorf("%s of %s: %v", ip, s.Name, err)
			continue
		}
		if f := o.Labels[networkingv1.LabelIPAddressFamily]; f != string(s.Spec.IPFamilies[i]) || o.Spec.ParentRef.Name != s.Name {
			t.Errorf("%s is of %s and of %s, want %s and %s", ip, o.Spec.ParentRef.Name, f, s.Name, s.Spec.IPFamilies[i])
		}
	}
}

// TestSecondFamily is a cluster that gets a second family: what there is stays as it is until somebody says otherwise.
func TestSecondFamily(t *testing.T) {
	c := testcluster.Start(t, "--service-cluster-ip-range="+fourRange)
	ctx, prefer := t.Context(), corev1.IPFamilyPolicyPreferDualStack
	made, err := c.Kube.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{
		IPFamilyPolicy: &prefer, Ports: []corev1.ServicePort{{Port: 80}},
	}}, metav1.CreateOptions{})
	if err != nil || len(made.Spec.ClusterIPs) != 1 {
		t.Fatal(made.Spec, err)
	}
	other := c.Another("--service-cluster-ip-range=" + fourRange + "," + sixRange)
	services := other.Kube.CoreV1().Services("default")
	until(t, "the second range to be told", func() bool {
		r, err := other.Kube.NetworkingV1().ServiceCIDRs().Get(ctx, "kubernetes", metav1.GetOptions{})
		return err == nil && strings.Join(r.Spec.CIDRs, ",") == fourRange+","+sixRange
	})
	got, err := services.Patch(ctx, "a", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	if err != nil || len(got.Spec.ClusterIPs) != 1 {
		t.Errorf("after a change of something else: %v, %v", got.Spec.ClusterIPs, err)
	}
	got, err = services.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"ipFamilies":["IPv4","IPv6"]}}`), metav1.PatchOptions{})
	if err != nil || len(got.Spec.ClusterIPs) != 2 {
		t.Fatalf("the second when it is asked for: %v, %v", got.Spec.ClusterIPs, err)
	}
	checkFamilies(t, other.Kube, got)

	for args, words := range map[string]string{
		"--service-cluster-ip-range=" + fourRange + ",10.97.0.0/24":                                   "want one range, or one IPv4 and one IPv6",
		"--service-cluster-ip-range=" + sixRange + "," + fourRange + " --advertise-address=192.0.2.1": `service IP family "fd00:96::/112" must match public address family "192.0.2.1"`,
	} {
		if said := c.Refused(strings.Fields(args)...); !strings.Contains(said, words) {
			t.Errorf("%s: %s", args, said)
		}
	}
}
