package pods

import (
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// What the C library reads of a resolv.conf; longer search paths than that of a DNS name made it abort.
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchChars = 2048
	maxSearchPath  = 253
)

// DNS is what pods are told about name servers.
type DNS struct {
	// Cluster are the cluster's name servers; none: pods use the node's.
	Cluster []string
	// Domain of the cluster, cluster.local.
	Domain string
	// NodeFile is the node's resolv.conf; empty: the node tells pods nothing.
	NodeFile string
}

// warning is an event that goes with what was written.
type warning struct{ reason, message string }

// resolver is the content of a resolv.conf.
type resolver struct{ servers, searches, options []string }

// resolvConf is a pod's /etc/resolv.conf by its DNS policy, and what the user should know about it.
func (d DNS) resolvConf(p *corev1.Pod) (string, []warning, error) {
	var r resolver
	var warnings []warning
	policy := p.Spec.DNSPolicy
	if policy == "" || policy == corev1.DNSClusterFirst && p.Spec.HostNetwork {
		policy = map[bool]corev1.DNSPolicy{true: corev1.DNSDefault, false: corev1.DNSClusterFirst}[p.Spec.HostNetwork]
	}
	if len(d.Cluster) == 0 && (policy == corev1.DNSClusterFirst || policy == corev1.DNSClusterFirstWithHostNet) {
		warnings = append(warnings, warning{"MissingClusterDNS", fmt.Sprintf(
			"pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
			fmt.Sprintf("%s_%s(%s)", p.Name, p.Namespace, p.UID), corev1.DNSClusterFirst, corev1.DNSDefault)})
		policy = corev1.DNSDefault
	}
	if policy != corev1.DNSNone {
		own, err := d.node()
		if err != nil {
			return "", nil, err
		}
		r = own
		if policy != corev1.DNSDefault {
			r = resolver{servers: slices.Clone(d.Cluster), options: []string{"ndots:5"},
				searches: append([]string{p.Namespace + ".svc." + d.Domain, "svc." + d.Domain, d.Domain}, own.searches...)}
		}
	}
	if c := p.Spec.DNSConfig; c != nil {
		r.add(c)
	}
	r.servers, r.searches, r.options = unique(r.servers), unique(r.searches), unique(r.options)
	warnings = append(warnings, r.limit()...)
	return r.text(), warnings, nil
}

// add joins what the pod itself says; its options win.
func (r *resolver) add(c *corev1.PodDNSConfig) {
	r.servers, r.searches = append(r.servers, c.Nameservers...), append(r.searches, c.Searches...)
	for _, o := range c.Options {
		text := o.Name
		if o.Value != nil {
			text += ":" + *o.Value
		}
		r.options = slices.DeleteFunc(r.options, func(old string) bool { name, _, _ := strings.Cut(old, ":"); return name == o.Name })
		r.options = append(r.options, text)
	}
}

// limit leaves out what would not be read, and says so.
func (r *resolver) limit() (warnings []warning) {
	if len(r.servers) > maxServers {
		r.servers = r.servers[:maxServers]
		warnings = append(warnings, warning{"DNSConfigForming",
			"Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " + strings.Join(r.servers, " ")})
	}
	fits := slices.DeleteFunc(slices.Clone(r.searches), func(s string) bool { return len(s) > maxSearchPath })
	fits = fits[:min(len(fits), maxSearches)]
	for len(strings.Join(fits, " ")) > maxSearchChars {
		fits = fits[:len(fits)-1]
	}
	if len(fits) < len(r.searches) {
		warnings = append(warnings, warning{"DNSConfigForming",
			"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(fits, " ")})
	}
	r.searches = fits
	return warnings
}

func (r *resolver) text() string {
	var b strings.Builder
	if len(r.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.searches, " "))
	}
	for _, s := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.String()
}

// node reads the node's own resolv.conf. A node that is told not to tell has pods ask themselves, so that the C library does not ask
// whatever it would without a file; one whose file is missing has nothing to tell.
func (d DNS) node() (resolver, error) {
	if d.NodeFile == "" {
		return resolver{servers: []string{"127.0.0.1"}, searches: []string{"."}}, nil
	}
	data, err := os.ReadFile(d.NodeFile)
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
			r.searches = nil
			for _, s := range words[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				r.searches = append(r.searches, s)
			}
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
