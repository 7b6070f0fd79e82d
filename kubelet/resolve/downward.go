package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Field is the value of a downward API path.
func Field(pod *corev1.Pod, path string, facts Facts) (string, error) {
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
		return "", missingf("field path %q is not one that a pod can read of itself", path)
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return lines(pod.Labels), nil
	case "metadata.annotations":
		return lines(pod.Annotations), nil
	case "spec.nodeName":
		return facts.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(facts.HostIPs), nil
	case "status.hostIPs":
		return join(facts.HostIPs), nil
	case "status.podIP":
		return first(facts.PodIPs), nil
	case "status.podIPs":
		return join(facts.PodIPs), nil
	}
	return "", missingf("field path %q is not one that a pod can read of itself", path)
}

// subscript takes metadata.labels['KEY'] apart.
func subscript(path string) (name, key string, ok bool) {
	name, rest, found := strings.Cut(path, "['")
	if !found || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return name, strings.TrimSuffix(rest, "']"), true
}

// lines is the form of a map in a downward API file: key="value", sorted.
func lines(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]string, 0, len(m))
	for _, k := range keys {
		out = append(out, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(out, "\n")
}

func first(ips []netip.Addr) string {
	if len(ips) == 0 {
		return ""
	}
	return ips[0].String()
}

func join(ips []netip.Addr) string {
	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return strings.Join(out, ",")
}

// Resource is the value of a resource field: a request or limit in units of the divisor, rounded up. Without a limit it is the pod's, and without
// that what the node has (https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#downwardapi-resourceFieldRef).
// c is the container that asks; the reference may name another one of the pod (in volumes it must).
func Resource(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, facts Facts) (string, error) {
	if ref.ContainerName != "" {
		if c = containerNamed(pod, ref.ContainerName); c == nil {
			return "", missingf("container %q of a resource field is not in the pod", ref.ContainerName)
		}
	}
	if c == nil {
		return "", missingf("resource field %q names no container", ref.Resource)
	}
	kind, name, ok := strings.Cut(ref.Resource, ".")
	if !ok || (kind != "limits" && kind != "requests") {
		return "", missingf("resource field %q is neither a request nor a limit", ref.Resource)
	}
	limit, set := c.Resources.Limits[corev1.ResourceName(name)]
	q := limit
	if kind == "requests" {
		if request, has := c.Resources.Requests[corev1.ResourceName(name)]; has {
			q = request
		}
	} else if !set || limit.IsZero() {
		q = most(pod, corev1.ResourceName(name), facts)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return strconv.FormatInt(ceil(q.MilliValue(), divisor.MilliValue()), 10), nil
	}
	if divisor.Value() == 0 {
		return "", fmt.Errorf("resource field %q: divisor %s is no number of %s", ref.Resource, divisor.String(), name)
	}
	return strconv.FormatInt(ceil(q.Value(), divisor.Value()), 10), nil
}

// most is what a container without a limit of its own may have.
func most(pod *corev1.Pod, name corev1.ResourceName, facts Facts) resource.Quantity {
	if r := pod.Spec.Resources; r != nil {
		if q, has := r.Limits[name]; has && !q.IsZero() {
			return q
		}
	}
	return facts.Allocatable[name]
}

func ceil(a, b int64) int64 {
	whole := a / b
	if a%b > 0 {
		whole++
	}
	return whole
}

func containerNamed(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
