package pods

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/volumes"
)

// DNS is what pods are told about name servers.
type DNS struct {
	// Cluster are the cluster's name servers; none: pods use the node's.
	Cluster []string
	// Domain of the cluster, cluster.local.
	Domain string
	// NodeFile is the node's resolv.conf; empty: /etc/resolv.conf.
	NodeFile string
}

// doFiles writes hosts, resolv.conf and hostname of the pod. Files of a former life are written over in place: they are mounted into containers.
func doFiles(_ context.Context, w *worker, in input) (func(*state), error) {
	dir := filepath.Join(volumes.PodDir(w.cfg.Root, w.uid), "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of a pod's own files: %w", err)
	}
	resolv, err := w.cfg.DNS.resolvConf(in.pod)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"hosts": hosts(in.pod, in.facts.PodIPs, w.cfg.DNS.Domain), "resolv.conf": resolv, "hostname": hostname(in.pod) + "\n",
	} {
		if old, err := os.ReadFile(filepath.Join(dir, name)); err == nil && string(old) == text {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("writing a pod's own file: %w", err)
		}
	}
	return nil, nil
}

// hosts is a pod's /etc/hosts.
func hosts(p *corev1.Pod, ips []netip.Addr, domain string) string {
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
	if p.Spec.Subdomain != "" {
		names = fmt.Sprintf("%s.%s.%s.svc.%s\t%s", names, p.Spec.Subdomain, p.Namespace, domain, names)
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

// resolvConf is a pod's /etc/resolv.conf by its DNS policy.
func (d DNS) resolvConf(p *corev1.Pod) (string, error) {
	var servers, searches, options []string
	policy := p.Spec.DNSPolicy
	if policy == "" {
		policy = corev1.DNSClusterFirst
	}
	if p.Spec.HostNetwork && policy == corev1.DNSClusterFirst || len(d.Cluster) == 0 && policy != corev1.DNSNone {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		own, err := d.node()
		if err != nil {
			return "", err
		}
		servers, searches, options = own.servers, own.searches, own.options
	default:
		servers = slices.Clone(d.Cluster)
		searches = []string{p.Namespace + ".svc." + d.Domain, "svc." + d.Domain, d.Domain}
		options = []string{"ndots:5"}
		own, err := d.node()
		if err != nil {
			return "", err
		}
		searches = append(searches, own.searches...)
	}
	if c := p.Spec.DNSConfig; c != nil {
		servers, searches = append(servers, c.Nameservers...), append(searches, c.Searches...)
		for _, o := range c.Options {
			text := o.Name
			if o.Value != nil {
				text += ":" + *o.Value
			}
			options = slices.DeleteFunc(options, func(old string) bool { name, _, _ := strings.Cut(old, ":"); return name == o.Name })
			options = append(options, text)
		}
	}
	var b strings.Builder
	if searches = unique(searches); len(searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(searches, " "))
	}
	for _, s := range unique(servers) {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if options = unique(options); len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String(), nil
}

type resolver struct{ servers, searches, options []string }

// node reads the node's own resolv.conf; a node without one has nothing to tell.
func (d DNS) node() (resolver, error) {
	path := d.NodeFile
	if path == "" {
		path = "/etc/resolv.conf"
	}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return resolver{}, nil
	}
	if err != nil {
		return resolver{}, fmt.Errorf("reading the node's name servers: %w", err)
	}
	var r resolver
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			r.servers = append(r.servers, words[1])
		case "search":
			r.searches = words[1:]
		case "options":
			r.options = append(r.options, words[1:]...)
		}
	}
	return r, nil
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
