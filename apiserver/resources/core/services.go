package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// Services give a set of pods one address. The addresses themselves are chosen by the admission plugin service addresses.
var Services = registry.Define(registry.Kind[*corev1.Service]{
	Version: "v1", Kind: "Service", Plural: "services", Short: []string{"svc"}, Categories: []string{"all"},
	ReturnsDeleted: true,
	Namespaced:     true, Status: true,
	Name:           apivalidation.NameIsDNSLabel,
	Default:        defaultService,
	BeforeCreate:   func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} },
	Validate:       validateService,
	ValidateUpdate: validateServiceUpdate,
	ValidateStatus: validateServiceStatus,
	BeforeStatus:   func(s, _ *corev1.Service) { defaultIngress(s) },
	Warn:           warnService,
	FieldNames:     []string{"spec.clusterIP", "spec.type"},
	Fields: func(s *corev1.Service) fields.Set {
		return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	},
	Columns: []registry.Column[*corev1.Service]{
		{Name: "Type", Description: "How the service is reached.", Value: func(s *corev1.Service) any { return string(s.Spec.Type) }},
		{Name: "Cluster-IP", Description: "Its address inside the cluster.", Value: func(s *corev1.Service) any { return orElse(s.Spec.ClusterIP, none) }},
		{Name: "External-IP", Description: "Its addresses outside the cluster.", Value: func(s *corev1.Service) any { return externalIPs(s) }},
		{Name: "Port(s)", Description: "The ports it offers.", Value: func(s *corev1.Service) any { return servicePorts(s.Spec.Ports) }},
		registry.Age[*corev1.Service](),
		{Name: "Selector", Priority: 1, Description: "Which pods are behind it.", Value: func(s *corev1.Service) any { return selectorText(s.Spec.Selector) }},
	},
})

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	if spec.SessionAffinity == "" {
		spec.SessionAffinity = corev1.ServiceAffinityNone
	}
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		if c := spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{
				ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To(corev1.DefaultClientIPServiceAffinitySeconds)},
			}
		}
	}
	if spec.Type == "" {
		spec.Type = corev1.ServiceTypeClusterIP
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if reachableFromOutside(s) && spec.ExternalTrafficPolicy == "" {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	if hasClusterIP(s) && spec.InternalTrafficPolicy == nil {
		spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer && spec.AllocateLoadBalancerNodePorts == nil {
		spec.AllocateLoadBalancerNodePorts = ptr.To(true)
	}
	defaultIngress(s)
}

// defaultIngress says of the addresses of a balancer that they are its own, not the node's.
func defaultIngress(s *corev1.Service) {
	for i := range s.Status.LoadBalancer.Ingress {
		if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" && in.IPMode == nil {
			in.IPMode = ptr.To(corev1.LoadBalancerIPModeVIP)
		}
	}
}

// hasClusterIP says whether services of this type have a cluster IP (or say None).
func hasClusterIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

// hasNodePort says whether services of this type have node ports.
func hasNodePort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func reachableFromOutside(s *corev1.Service) bool {
	return hasNodePort(s) || s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

func headless(s *corev1.Service) bool {
	return hasClusterIP(s) && (s.Spec.ClusterIP == corev1.ClusterIPNone ||
		len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone)
}

func externalIPs(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var all []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if a := orElse(in.IP, in.Hostname); a != "" {
				all = append(all, a)
			}
		}
		return orElse(strings.Join(append(all, s.Spec.ExternalIPs...), ","), "<pending>")
	default:
		return orElse(strings.Join(s.Spec.ExternalIPs, ","), none)
	}
}

func servicePorts(ports []corev1.ServicePort) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			texts[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return orElse(strings.Join(texts, ","), none)
}
