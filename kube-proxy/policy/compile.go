package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kube-proxy/changes"
)

// Policy is a NetworkPolicy read once: selectors made, defaults filled in. The
// meaning of every field is that of networking.k8s.io/v1.
// INVARIANT: it is never changed.
type Policy struct {
	Name   Name
	target labels.Selector // of pods in its namespace
	in     *side           // nil: it does not isolate for ingress
	out    *side           // nil: nor for egress

	spec networkingv1.NetworkPolicySpec
}

// side is what a policy allows in one direction.
type side struct{ rules []rule }

// rule allows peers to use ports.
type rule struct {
	anyone bool
	peers  []peer
	ports  portSet
	names  []portName // ports that only the destination knows the number of
}

// peer is one item of from or to; who has the same key is the same peer.
type peer struct {
	key string

	// Pods: of one namespace, or of all whose labels match.
	namespace  string
	namespaces labels.Selector // nil: namespace
	pods       labels.Selector

	// Or addresses. Not valid: pods.
	block  netip.Prefix
	except []netip.Prefix
}

// policyOf compiles a policy. The error says what in it nobody can understand;
// the API server lets no such policy in.
func policyOf(np *networkingv1.NetworkPolicy) (*Policy, error) {
	p := &Policy{Name: Name{np.Namespace, np.Name}, spec: np.Spec}
	var err error
	if p.target, err = metav1.LabelSelectorAsSelector(&np.Spec.PodSelector); err != nil {
		return nil, fmt.Errorf("reading podSelector: %w", err)
	}
	ingress, egress := true, len(np.Spec.Egress) > 0
	if len(np.Spec.PolicyTypes) > 0 {
		ingress = slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		egress = slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	}
	if ingress {
		p.in = &side{}
		for i, r := range np.Spec.Ingress {
			if err := p.in.add(np.Namespace, r.From, r.Ports); err != nil {
				return nil, fmt.Errorf("reading ingress[%d]: %w", i, err)
			}
		}
	}
	if egress {
		p.out = &side{}
		for i, r := range np.Spec.Egress {
			if err := p.out.add(np.Namespace, r.To, r.Ports); err != nil {
				return nil, fmt.Errorf("reading egress[%d]: %w", i, err)
			}
		}
	}
	return p, nil
}

// GetObjectMeta names the policy, for stores of client-go.
func (p *Policy) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: p.Name.Namespace, Name: p.Name.Name}
}

func (p *Policy) equal(o *Policy) bool { return apiequality.Semantic.DeepEqual(p.spec, o.spec) }

// add reads one rule: no peers means anyone, no ports means all.
func (s *side) add(namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) error {
	r := rule{anyone: len(peers) == 0}
	for i, p := range peers {
		q, err := peerOf(namespace, p)
		if err != nil {
			return fmt.Errorf("reading peer %d: %w", i, err)
		}
		r.peers = append(r.peers, q)
	}
	var numbers []portRange
	for _, p := range ports {
		proto := changes.TCP
		if p.Protocol != nil {
			proto = protocolOf(*p.Protocol)
		}
		switch {
		case p.Port == nil:
			numbers = append(numbers, portRange{proto, 0, 65535})
		case p.Port.Type == intstr.String:
			r.names = append(r.names, portName{p.Port.StrVal, proto})
		case p.EndPort != nil:
			numbers = append(numbers, portRange{proto, uint16(p.Port.IntVal), uint16(*p.EndPort)})
		default:
			numbers = append(numbers, portRange{proto, uint16(p.Port.IntVal), uint16(p.Port.IntVal)})
		}
	}
	r.ports = portSet{all: len(ports) == 0, ranges: canonical(numbers)}
	s.rules = append(s.rules, r)
	return nil
}

func peerOf(namespace string, p networkingv1.NetworkPolicyPeer) (peer, error) {
	if p.IPBlock != nil {
		return blockOf(p.IPBlock)
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		return peer{}, errors.New("it names nobody")
	}
	out := peer{namespace: namespace, pods: labels.Everything()}
	var err error
	if p.PodSelector != nil {
		if out.pods, err = metav1.LabelSelectorAsSelector(p.PodSelector); err != nil {
			return peer{}, fmt.Errorf("reading podSelector: %w", err)
		}
	}
	out.key = "in " + namespace
	if p.NamespaceSelector != nil {
		if out.namespaces, err = metav1.LabelSelectorAsSelector(p.NamespaceSelector); err != nil {
			return peer{}, fmt.Errorf("reading namespaceSelector: %w", err)
		}
		out.namespace, out.key = "", "where "+out.namespaces.String()
	}
	out.key += " pods " + out.pods.String()
	return out, nil
}

func blockOf(b *networkingv1.IPBlock) (peer, error) {
	var out peer
	var err error
	if out.block, err = netip.ParsePrefix(b.CIDR); err != nil {
		return peer{}, fmt.Errorf("reading ipBlock.cidr: %w", err)
	}
	out.block = out.block.Masked()
	text := []string{}
	for _, e := range b.Except {
		x, err := netip.ParsePrefix(e)
		if err != nil {
			return peer{}, fmt.Errorf("reading ipBlock.except: %w", err)
		}
		out.except = append(out.except, x.Masked())
		text = append(text, x.Masked().String())
	}
	slices.Sort(text)
	out.key = "block " + out.block.String() + " except " + strings.Join(text, " ")
	return out, nil
}

// side is what the policy allows in a direction; nil: it does not isolate for it.
func (p *Policy) side(d direction) *side {
	if d == ingress {
		return p.in
	}
	return p.out
}

// rules are all rules of the policy, of both directions.
func (p *Policy) rules() []rule {
	var out []rule
	for _, s := range []*side{p.in, p.out} {
		if s != nil {
			out = append(out, s.rules...)
		}
	}
	return out
}

// direction is that of a packet that opens a connection, seen from the pod.
type direction int

const (
	ingress direction = iota
	egress
)
