package network

import (
	"errors"
	"math"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Capabilities that a plugin may ask for (https://www.cni.dev/docs/conventions/#dynamic-plugin-specific-fields-capabilities--runtime-configuration).
const (
	capabilityPorts     = "portMappings"
	capabilityBandwidth = "bandwidth"
	capabilityRanges    = "ipRanges"
)

type portMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

type bandwidthArgs struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

type ipRange struct {
	Subnet string `json:"subnet"`
}

// needs says whether a plugin of the configuration asks for a capability.
func needs(list *libcni.NetworkConfigList, capability string) bool {
	for _, plugin := range list.Plugins {
		if plugin.Network.Capabilities[capability] {
			return true
		}
	}
	return false
}

// runtimeConf is what the plugins are told of a pod.
func (p *plugins) runtimeConf(list *libcni.NetworkConfigList, pod Pod) (*libcni.RuntimeConf, error) {
	conf := &libcni.RuntimeConf{ContainerID: pod.Key, NetNS: pod.NetNS, IfName: podLink, CapabilityArgs: map[string]any{}, Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name}, {"K8S_POD_INFRA_CONTAINER_ID", pod.Key}, {"K8S_POD_UID", pod.Key},
	}}
	var ports []portMapping
	for _, h := range pod.HostPorts {
		m := portMapping{HostPort: h.Port, ContainerPort: h.ContainerPort, Protocol: strings.ToLower(string(h.Protocol))}
		if h.HostIP.IsValid() {
			m.HostIP = h.HostIP.String()
		}
		ports = append(ports, m)
	}
	if ports != nil {
		conf.CapabilityArgs[capabilityPorts] = ports
	}
	if b := pod.Bandwidth; b != (Bandwidth{}) {
		args := bandwidthArgs{IngressRate: b.Ingress, EgressRate: b.Egress}
		if b.Ingress > 0 {
			args.IngressBurst = math.MaxUint32
		}
		if b.Egress > 0 {
			args.EgressBurst = math.MaxUint32
		}
		conf.CapabilityArgs[capabilityBandwidth] = args
	}
	if needs(list, capabilityRanges) {
		p.mu.Lock()
		ranges := [][]ipRange{}
		for _, cidr := range p.ranges {
			ranges = append(ranges, []ipRange{{cidr.String()}})
		}
		p.mu.Unlock()
		if len(ranges) == 0 {
			return nil, ErrNoPodCIDR
		}
		conf.CapabilityArgs[capabilityRanges] = ranges
	}
	return conf, nil
}

// attachmentOf takes the pod's first address of each family, in the order of the cluster's families.
func (p *plugins) attachmentOf(result types.Result) (Attachment, error) {
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return Attachment{}, errors.Join(errors.New("reading answer of CNI plugins"), err)
	}
	var found [2]*types100.IPConfig // IPv4, IPv6
	var order []int
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Sandbox == "" {
			continue // an address of the node's
		}
		family := 0
		if ip.Address.IP.To4() == nil {
			family = 1
		}
		if found[family] == nil {
			found[family] = ip
			order = append(order, family)
		}
	}
	if len(order) == 2 && order[0] != p.firstFamily(order[0]) {
		order[0], order[1] = order[1], order[0]
	}
	var out Attachment
	for _, family := range order {
		ip := found[family]
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		bits, _ := ip.Address.Mask.Size()
		gw, _ := netip.AddrFromSlice(ip.Gateway)
		out.IPs, out.Gateways = append(out.IPs, netip.PrefixFrom(addr.Unmap(), bits)), append(out.Gateways, gw.Unmap())
	}
	if out.IPs == nil {
		return Attachment{}, errors.New("CNI plugins gave no address")
	}
	return out, nil
}

// firstFamily is that of the node's first pod range, else that of the node's address, else what is given: 0 is IPv4, 1 IPv6.
func (p *plugins) firstFamily(unknown int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.nodeIP
	if len(p.ranges) > 0 {
		first = p.ranges[0].Addr()
	}
	switch {
	case !first.IsValid():
		return unknown
	case first.Is4():
		return 0
	default:
		return 1
	}
}
