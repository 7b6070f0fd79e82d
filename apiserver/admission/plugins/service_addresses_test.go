package plugins

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/allocator"
	"pilothouse.dev/apiserver/registry"
)

// shelf gives addresses in order and notices what a real one must not be asked: a second release.
type shelf struct {
	t     *testing.T
	cidr  netip.Prefix
	taken map[string]bool
}

func newShelf(t *testing.T, cidr string, taken ...string) *shelf {
	s := &shelf{t, netip.MustParsePrefix(cidr), map[string]bool{}}
	for _, k := range taken {
		s.taken[k] = true
	}
	return s
}

func (s *shelf) mark(key string, inside bool) error {
	if !inside {
		return fmt.Errorf("marking: %w", &allocator.NotInRange{Range: "30000-30009"})
	}
	if s.taken[key] {
		return fmt.Errorf("marking: %w", allocator.ErrAllocated)
	}
	s.taken[key] = true
	return nil
}

func (s *shelf) free(key string) error {
	if !s.taken[key] {
		s.t.Errorf("%s was free", key)
	}
	delete(s.taken, key)
	return nil
}

func (s *shelf) CIDR() netip.Prefix { return s.cidr }
func (s *shelf) Allocate(_ context.Context, ip netip.Addr, _ allocator.Owner) error {
	return s.mark(ip.String(), s.cidr.Contains(ip))
}
func (s *shelf) Release(_ context.Context, ip netip.Addr, _ allocator.Owner) error {
	return s.free(ip.String())
}
func (s *shelf) AllocateNext(context.Context, allocator.Owner) (netip.Addr, error) {
	ip := s.cidr.Addr().Next()
	for s.taken[ip.String()] {
		ip = ip.Next()
	}
	return ip, s.mark(ip.String(), true)
}

type portShelf struct{ *shelf }

func (s portShelf) Allocate(_ context.Context, n int) error {
	return s.mark(fmt.Sprint(n), n >= 30000 && n < 30010)
}
func (s portShelf) Release(_ context.Context, n int) error { return s.free(fmt.Sprint(n)) }
func (s portShelf) AllocateNext(context.Context) (int, error) {
	for n := 30000; n < 30010; n++ {
		if !s.taken[fmt.Sprint(n)] {
			return n, s.mark(fmt.Sprint(n), true)
		}
	}
	return 0, allocator.ErrFull
}

// story is a cluster's ranges and the steps of one service through them.
type story struct {
	t     *testing.T
	p     *serviceAddresses
	chain *admission.Chain
	four  *shelf
	ports *shelf
}

func newStory(t *testing.T, taken ...string) *story {
	s := &story{t: t, four: newShelf(t, "10.96.0.0/24"), ports: newShelf(t, "0.0.0.0/0")}
	for _, k := range taken {
		if strings.Contains(k, ".") {
			s.four.taken[k] = true
		} else {
			s.ports.taken[k] = true
		}
	}
	s.p = &serviceAddresses{ips: []IPs{s.four}, ports: portShelf{s.ports}}
	s.chain = admission.New([]admission.Plugin{s.p})
	return s
}

func (s *story) write(op admission.Operation, obj, old *corev1.Service, stored bool) error {
	var o, b registry.Object
	if obj != nil {
		o = obj
	}
	if old != nil {
		b = old
	}
	a := attributes(op, serviceKind, o, b)
	err := s.chain.Mutate(s.t.Context(), a)
	if err != nil || !stored {
		s.chain.Undo(s.t.Context(), a)
	} else {
		s.chain.Stored(s.t.Context(), a)
	}
	return err
}

// holds checks what is marked.
func (s *story) holds(want ...string) {
	s.t.Helper()
	var got []string
	for k := range s.four.taken {
		got = append(got, k)
	}
	for k := range s.ports.taken {
		got = append(got, k)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("marked are %v, want %v", got, want)
	}
}

func service(kind corev1.ServiceType, change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s"},
		Spec: corev1.ServiceSpec{
			Type: kind, Selector: map[string]string{"a": "b"},
			Ports: []corev1.ServicePort{{Name: "x", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

func TestServiceCreate(t *testing.T) {
	dns := func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "u", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "t", Port: 53, Protocol: corev1.ProtocolTCP}}
	}
	for _, c := range []struct {
		name    string
		service *corev1.Service
		taken   []string
		ips     []string
		ports   []int
		marked  []string
		words   string
	}{
		{"next address", service("ClusterIP", nil), nil, []string{"10.96.0.1"}, nil, []string{"10.96.0.1"}, ""},
		{"one by name", service("ClusterIP", func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.10" }), nil, []string{"10.96.0.10"}, nil, []string{"10.96.0.10"}, ""},
		{"one that is taken", service("ClusterIP", func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.10" }), []string{"10.96.0.10"}, nil, nil, []string{"10.96.0.10"},
			"spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated"},
		{"one from elsewhere", service("ClusterIP", func(s *corev1.Service) { s.Spec.ClusterIP = "10.97.0.1" }), nil, nil, nil, nil,
			"the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/24"},
		{"headless", service("ClusterIP", func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), nil, []string{"None"}, nil, nil, ""},
		{"elsewhere by name", service("ExternalName", nil), nil, nil, nil, nil, ""},
		{"node port", service("NodePort", nil), nil, []string{"10.96.0.1"}, []int{30000}, []string{"10.96.0.1", "30000"}, ""},
		{"two protocols, one node port", service("NodePort", dns), nil, []string{"10.96.0.1"}, []int{30000}, []string{"10.96.0.1", "30000"}, ""},
		{"node port that is taken gives the address back", service("NodePort", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30001 }), []string{"30001"},
			nil, nil, []string{"30001"}, "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"},
		{"node port out of range", service("NodePort", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 80 }), nil, nil, nil, nil,
			"provided port is not in the valid range. The range of valid ports is 30000-30009"},
		{"balanced, health check", service("LoadBalancer", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" }), nil,
			[]string{"10.96.0.1"}, []int{30000, 30001}, []string{"10.96.0.1", "30000", "30001"}, ""},
		{"balanced without node ports", service("LoadBalancer", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false) }), nil,
			[]string{"10.96.0.1"}, nil, []string{"10.96.0.1"}, ""},
		{"two families where there is one", service("ClusterIP", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack) }), nil, nil, nil, nil,
			"this cluster is not configured for dual-stack services"},
		{"a family there is not", service("ClusterIP", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }), nil, nil, nil, nil,
			"not configured on this cluster"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t, c.taken...)
			err := s.write(admission.Create, c.service, nil, true)
			if c.words != "" {
				refused(t, err, metav1.StatusReasonInvalid, c.words)
			} else {
				refused(t, err, "", "")
				if !slices.Equal(c.service.Spec.ClusterIPs, c.ips) || !slices.Equal(nodePorts(c.service), c.ports) {
					t.Errorf("has %v and %v, want %v and %v", c.service.Spec.ClusterIPs, nodePorts(c.service), c.ips, c.ports)
				}
				if len(c.ips) > 0 && c.service.Spec.ClusterIP != c.ips[0] {
					t.Errorf("clusterIP %s", c.service.Spec.ClusterIP)
				}
			}
			s.holds(c.marked...)
		})
	}
}

func TestServiceLife(t *testing.T) {
	s := newStory(t)
	made := service("NodePort", nil)
	refused(t, s.write(admission.Create, made, nil, true), "", "")
	s.holds("10.96.0.1", "30000")

	t.Run("an update that names nothing keeps everything", func(t *testing.T) {
		again := service("NodePort", nil)
		refused(t, s.write(admission.Update, again, made, true), "", "")
		if again.Spec.ClusterIP != "10.96.0.1" || again.Spec.Ports[0].NodePort != 30000 || again.Spec.IPFamilyPolicy == nil {
			t.Errorf("has %+v", again.Spec)
		}
		s.holds("10.96.0.1", "30000")
	})
	t.Run("an update that fails gives back only what it took", func(t *testing.T) {
		more := made.DeepCopy()
		more.Spec.Ports = append(more.Spec.Ports, corev1.ServicePort{Name: "y", Port: 81, Protocol: corev1.ProtocolTCP})
		refused(t, s.write(admission.Update, more, made, false), "", "")
		s.holds("10.96.0.1", "30000")
	})
	t.Run("a dry run takes nothing", func(t *testing.T) {
		a := attributes(admission.Create, serviceKind, service("NodePort", nil), nil)
		a.DryRun = true
		refused(t, s.chain.Mutate(t.Context(), a), "", "")
		s.holds("10.96.0.1", "30000")
	})
	plain := made.DeepCopy()
	t.Run("the type alone changes to ClusterIP", func(t *testing.T) {
		plain.Spec.Type = corev1.ServiceTypeClusterIP
		refused(t, s.write(admission.Update, plain, made, true), "", "")
		if plain.Spec.Ports[0].NodePort != 0 {
			t.Errorf("keeps node port %d", plain.Spec.Ports[0].NodePort)
		}
		s.holds("10.96.0.1")
	})
	named := plain.DeepCopy()
	t.Run("the type alone changes to ExternalName", func(t *testing.T) {
		named.Spec.Type, named.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.org"
		refused(t, s.write(admission.Update, named, plain, true), "", "")
		if named.Spec.ClusterIP != "" || named.Spec.ClusterIPs != nil || named.Spec.IPFamilies != nil || named.Spec.IPFamilyPolicy != nil {
			t.Errorf("keeps %+v", named.Spec)
		}
		s.holds()
	})
	back := named.DeepCopy()
	t.Run("and back", func(t *testing.T) {
		back.Spec.Type, back.Spec.ExternalName = corev1.ServiceTypeNodePort, ""
		refused(t, s.write(admission.Update, back, named, true), "", "")
		s.holds("10.96.0.1", "30000")
	})
	t.Run("a delete that fails frees nothing", func(t *testing.T) {
		refused(t, s.write(admission.Delete, nil, back, false), "", "")
		s.holds("10.96.0.1", "30000")
	})
	t.Run("a delete frees all", func(t *testing.T) {
		refused(t, s.write(admission.Delete, nil, back, true), "", "")
		s.holds()
	})
}

func TestServiceDualStack(t *testing.T) {
	six := newShelf(t, "fd00::/112")
	s := newStory(t)
	s.p.ips = append(s.p.ips, six)
	dual := service("ClusterIP", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack) })
	refused(t, s.write(admission.Create, dual, nil, true), "", "")
	if !slices.Equal(dual.Spec.ClusterIPs, []string{"10.96.0.1", "fd00::1"}) {
		t.Errorf("has %v", dual.Spec.ClusterIPs)
	}
	single := dual.DeepCopy()
	single.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
	refused(t, s.write(admission.Update, single, dual, true), "", "")
	if !slices.Equal(single.Spec.ClusterIPs, []string{"10.96.0.1"}) || len(six.taken) != 0 {
		t.Errorf("has %v, and %v are marked", single.Spec.ClusterIPs, six.taken)
	}
	first := service("ClusterIP", func(s *corev1.Service) { s.Spec.ClusterIP = "fd00::5" })
	refused(t, s.write(admission.Create, first, nil, true), "", "")
	if !slices.Equal(first.Spec.IPFamilies, []corev1.IPFamily{corev1.IPv6Protocol}) {
		t.Errorf("families %v", first.Spec.IPFamilies)
	}
	open := service("ClusterIP", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Selector = "None", nil })
	refused(t, s.write(admission.Create, open, nil, true), "", "")
	if len(open.Spec.IPFamilies) != 2 || *open.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyRequireDualStack {
		t.Errorf("headless without selector: %v %v", open.Spec.IPFamilies, *open.Spec.IPFamilyPolicy)
	}
}

func TestServiceRangeFull(t *testing.T) {
	s := newStory(t)
	for n := range 10 {
		s.ports.taken[fmt.Sprint(30000+n)] = true
	}
	err := s.write(admission.Create, service("NodePort", nil), nil, true)
	if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "failed to allocate a nodePort: range is full") {
		t.Errorf("got %v", err)
	}
	if len(s.four.taken) != 0 {
		t.Errorf("kept %v", s.four.taken)
	}
}
