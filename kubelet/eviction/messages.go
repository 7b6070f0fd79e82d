package eviction

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// reason of the status of a pod that was ended or refused for want of something.
const reason = "Evicted"

// quantity writes a number as users know it for the resource.
func quantity(r corev1.ResourceName, n int64) string {
	if r == inodes || r == pids {
		return resource.NewQuantity(n, resource.DecimalSI).String()
	}
	return resource.NewQuantity(n, resource.BinarySI).String()
}

// message says why a pod was ended: what was short, and which of its containers took more than they asked for.
func message(s shortage, c candidate) string {
	r := s.threshold.Signal.resource()
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %s. Threshold quantity: %s, available: %s. ", r, quantity(r, s.want), quantity(r, s.left))
	for _, one := range c.containers {
		if one.used > one.requested {
			fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %s. ", one.name, quantity(r, one.used), quantity(r, one.requested), r)
		}
	}
	return b.String()
}
