package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func coversServices(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return false
}

func serviceUsage(o metav1.Object, _ time.Time, list corev1.ResourceList) {
	s := o.(*corev1.Service)
	ports, balancers := 0, 0
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		ports = len(s.Spec.Ports)
	case corev1.ServiceTypeLoadBalancer:
		balancers = 1
		ports = len(s.Spec.Ports)
		if given := s.Spec.AllocateLoadBalancerNodePorts; given != nil && !*given {
			ports = 0 // but for those it names itself
			for _, p := range s.Spec.Ports {
				if p.NodePort != 0 {
					ports++
				}
			}
		}
	}
	list[corev1.ResourceServices] = one()
	list[corev1.ResourceServicesNodePorts] = number(ports)
	list[corev1.ResourceServicesLoadBalancers] = number(balancers)
}
