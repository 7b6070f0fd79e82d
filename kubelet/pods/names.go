package pods

import (
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
)

const (
	// maxHostname is what users of hostnames expect, maxKernelName what the kernel takes.
	maxHostname   = 63
	maxKernelName = 64
)

// hostname of the pod, cut where its own name is too long for one.
func hostname(p *corev1.Pod) string {
	if p.Spec.HostnameOverride != nil {
		return *p.Spec.HostnameOverride
	}
	name := p.Name
	if p.Spec.Hostname != "" {
		name = p.Spec.Hostname
	}
	for len(name) > maxHostname || len(name) > 0 && (name[len(name)-1] == '-' || name[len(name)-1] == '.') {
		name = name[:min(len(name)-1, maxHostname)]
	}
	return name
}

// domain of a pod with a subdomain, else empty; a hostname that was overridden has none.
func domain(p *corev1.Pod, cluster string) string {
	if p.Spec.Subdomain == "" || p.Spec.HostnameOverride != nil {
		return ""
	}
	return fmt.Sprintf("%s.%s.svc.%s", p.Spec.Subdomain, p.Namespace, cluster)
}

// kernelName is what uname says in the pod: the hostname, or with setHostnameAsFQDN the whole name. On the node's network it is the node's.
func kernelName(p *corev1.Pod, cluster string) (string, error) {
	if p.Spec.HostNetwork {
		name, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("asking hostname: %w", err)
		}
		return name, nil
	}
	name, in := hostname(p), domain(p, cluster)
	if !is(p.Spec.SetHostnameAsFQDN) || in == "" {
		return name, nil
	}
	if name += "." + in; len(name) > maxKernelName {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)",
			name, maxKernelName, len(name))
	}
	return name, nil
}
