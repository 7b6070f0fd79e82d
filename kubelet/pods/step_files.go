package pods

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/volumes"
)

// doFiles writes hosts, resolv.conf and hostname of the pod. Files of a former life are written over in place: they are mounted into containers.
func doFiles(_ context.Context, w *worker, in input) (func(*state), error) {
	dir := filepath.Join(volumes.PodDir(w.cfg.Root, w.uid), "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of a pod's own files: %w", err)
	}
	resolv, warnings, err := w.cfg.DNS.resolvConf(in.pod)
	if err != nil {
		return nil, err
	}
	for _, says := range warnings {
		w.tell(in.pod, "", corev1.EventTypeWarning, says.reason, "%s", says.message)
	}
	name, err := kernelName(in.pod, w.cfg.DNS.Domain)
	if err != nil {
		return nil, err
	}
	for file, text := range map[string]string{
		"hosts": hosts(in.pod, in.facts.PodIPs, w.cfg.DNS.Domain), "resolv.conf": resolv, "hostname": name + "\n",
	} {
		if old, err := os.ReadFile(filepath.Join(dir, file)); err == nil && string(old) == text {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("writing a pod's own file: %w", err)
		}
	}
	return nil, nil
}

// hosts is a pod's /etc/hosts.
func hosts(p *corev1.Pod, ips []netip.Addr, cluster string) string {
	var b strings.Builder
	b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	if p.Spec.HostNetwork {
		if own, err := os.ReadFile("/etc/hosts"); err == nil {
			b.Reset()
			b.WriteString("# Kubernetes-managed hosts file (host network).\n")
			b.Write(own)
			ips = nil
		}
	}
	names := hostname(p)
	if in := domain(p, cluster); in != "" {
		names = fmt.Sprintf("%s.%s\t%s", names, in, names)
	}
	for _, ip := range ips {
		fmt.Fprintf(&b, "%s\t%s\n", ip, names)
	}
	if len(p.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range p.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return b.String()
}
