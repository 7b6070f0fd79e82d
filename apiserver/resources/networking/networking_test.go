package networking

import (
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"pilothouse.dev/apiserver/registry/kindtest"
)

const ingress = `{spec: {ingressClassName: nginx, rules: [{host: a.example.org, http: {paths: [
  {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}`

// onePath is an ingress with one path.
func onePath(text string) string {
	return `{spec: {rules: [{http: {paths: [` + text + `]}}]}}`
}

// backend is an ingress with one backend.
func backend(text string) string { return `{spec: {rules: null, defaultBackend: ` + text + `}}` }

func TestIngresses(t *testing.T) {
	const web = `backend: {service: {name: web, port: {number: 80}}}`
	const at = "spec.rules[0].http.paths[0]"
	kindtest.Create(t, Ingresses, ingress, []kindtest.Case{
		{Name: "good"},
		{Name: "nothing", Diff: `{spec: {rules: null}}`, Want: []string{"spec: Invalid value"}},
		{Name: "bad class", Diff: `{spec: {ingressClassName: A_B}}`, Want: []string{"spec.ingressClassName: Invalid value"}},
		{Name: "classes that agree", Diff: `{metadata: {annotations: {kubernetes.io/ingress.class: nginx}}}`},
		{Name: "classes that differ", Diff: `{metadata: {annotations: {kubernetes.io/ingress.class: haproxy}}}`,
			Want: []string{"annotations.kubernetes.io/ingress.class: Invalid value"}},
		{Name: "a star", Diff: `{spec: {rules: [{host: "*.example.org"}]}}`},
		{Name: "a star inside", Diff: `{spec: {rules: [{host: "a.*.org"}]}}`, Want: []string{"spec.rules[0].host: Invalid value"}},
		{Name: "an address", Diff: `{spec: {rules: [{host: 10.0.0.1}]}}`, Want: []string{"spec.rules[0].host: Invalid value"}},
		{Name: "capitals", Diff: `{spec: {rules: [{host: A.org}]}}`, Want: []string{"spec.rules[0].host: Invalid value"}},
		{Name: "no paths", Diff: `{spec: {rules: [{http: {paths: []}}]}}`, Want: []string{"spec.rules[0].http.paths: Required value"}},
		{Name: "no type", Diff: onePath(`{path: /, ` + web + `}`), Want: []string{at + ".pathType: Required value"}},
		{Name: "unknown type", Diff: onePath(`{path: /, pathType: Regex, ` + web + `}`), Want: []string{at + ".pathType: Unsupported value"}},
		{Name: "relative", Diff: onePath(`{path: a, pathType: Exact, ` + web + `}`), Want: []string{at + ".path: Invalid value"}},
		{Name: "roundabout", Diff: onePath(`{path: /a//b/.., pathType: Prefix, ` + web + `}`), Want: []string{at + ".path: Invalid value", at + ".path: Invalid value"}},
		{Name: "slash in disguise", Diff: onePath(`{path: /a%2Fb, pathType: Exact, ` + web + `}`), Want: []string{at + ".path: Invalid value"}},
		{Name: "anything goes", Diff: onePath(`{path: "/a//b(.*)", pathType: ImplementationSpecific, ` + web + `}`)},
		{Name: "anything absolute", Diff: onePath(`{path: b, pathType: ImplementationSpecific, ` + web + `}`), Want: []string{at + ".path: Invalid value"}},
		{Name: "no path for anything", Diff: onePath(`{pathType: ImplementationSpecific, ` + web + `}`)},
		{Name: "no backend", Diff: backend(`{}`), Want: []string{"spec.defaultBackend: Invalid value"}},
		{Name: "two backends", Diff: backend(`{service: {name: a, port: {number: 1}}, resource: {kind: B, name: c}}`), Want: []string{"spec.defaultBackend: Invalid value"}},
		{Name: "a resource", Diff: backend(`{resource: {apiGroup: example.org, kind: Bucket, name: b}}`)},
		{Name: "a bad resource", Diff: backend(`{resource: {apiGroup: A_B, name: a/b}}`),
			Want: []string{"spec.defaultBackend.resource.apiGroup: Invalid value", "spec.defaultBackend.resource.kind: Required value", "spec.defaultBackend.resource.name: Invalid value"}},
		{Name: "no service's name", Diff: backend(`{service: {port: {name: http}}}`), Want: []string{"spec.defaultBackend.service.name: Required value"}},
		{Name: "a bad service's name", Diff: backend(`{service: {name: a.b, port: {name: http}}}`), Want: []string{"spec.defaultBackend.service.name: Invalid value"}},
		{Name: "no port", Diff: backend(`{service: {name: a}}`), Want: []string{"spec.defaultBackend: Required value"}},
		{Name: "two ports", Diff: backend(`{service: {name: a, port: {name: http, number: 80}}}`), Want: []string{"spec.defaultBackend: Invalid value"}},
		{Name: "a bad number", Diff: backend(`{service: {name: a, port: {number: 70000}}}`), Want: []string{"spec.defaultBackend.service.port.number: Invalid value"}},
		{Name: "a bad port's name", Diff: backend(`{service: {name: a, port: {name: a_b}}}`), Want: []string{"spec.defaultBackend.service.port.name: Invalid value"}},
		{Name: "certificates", Diff: `{spec: {tls: [{hosts: [a.org, "*.b.org"], secretName: s}, {}]}}`},
		{Name: "bad certificates", Diff: `{spec: {tls: [{hosts: [A, "a.*"], secretName: S_}]}}`,
			Want: []string{"spec.tls[0].hosts[0]: Invalid value", "spec.tls[0].hosts[1]: Invalid value", "spec.tls[0].secretName: Invalid value"}},
	})
	kindtest.Update(t, Ingresses, ingress, []kindtest.Case{
		{Name: "another host", Diff: `{spec: {rules: [{host: b.example.org}]}}`},
		{Name: "another class in the annotation", Diff: `{metadata: {annotations: {kubernetes.io/ingress.class: haproxy}}}`},
		{Name: "nothing left", Diff: `{spec: {rules: null}}`, Want: []string{"spec: Invalid value"}},
	})
	kindtest.Status(t, Ingresses, ingress, []kindtest.Case{
		{Name: "good", Diff: `{status: {loadBalancer: {ingress: [{ip: 10.0.0.1}, {hostname: a.org}]}}}`},
		{Name: "bad", Diff: `{status: {loadBalancer: {ingress: [{ip: 10.0.0.x}, {hostname: 10.0.0.1}, {hostname: A}]}}}`,
			Want: []string{"status.loadBalancer.ingress[0].ip: Invalid value", "status.loadBalancer.ingress[1].hostname: Invalid value", "status.loadBalancer.ingress[2].hostname: Invalid value"}},
	})
}

func TestIngressColumnsAndWarnings(t *testing.T) {
	g := kindtest.New(t, Ingresses, `{metadata: {annotations: {kubernetes.io/ingress.class: x}}, spec: {tls: [{}], rules: [{host: a}, {host: b}, {host: c}, {host: d}, {}]},
	  status: {loadBalancer: {ingress: [{ip: 10.0.0.2}, {hostname: h}, {ip: 10.0.0.1}, {ip: 10.0.0.1}]}}}`, "")
	kindtest.Shows(t, Ingresses, g, map[string]string{"Class": "<none>", "Hosts": "a,b,c + 1 more...", "Address": "10.0.0.1,10.0.0.2,h", "Ports": "80, 443"})
	kindtest.Shows(t, Ingresses, kindtest.New(t, Ingresses, ingress, ""), map[string]string{"Class": "nginx", "Hosts": "a.example.org", "Address": "", "Ports": "80"})
	kindtest.Shows(t, Ingresses, kindtest.New(t, Ingresses, "", ""), map[string]string{"Hosts": "*"})
	if w := Ingresses.Warn(g, nil); len(w) != 1 || !strings.Contains(w[0], "deprecated") {
		t.Errorf("warns %q", w)
	}
	if w := Ingresses.Warn(g, g); len(w) != 0 {
		t.Errorf("warns of what was there: %q", w)
	}
}

func TestIngressClasses(t *testing.T) {
	const class = `{spec: {controller: example.com/ingress}}`
	kindtest.Create(t, IngressClasses, class, []kindtest.Case{
		{Name: "good"},
		{Name: "no controller", Diff: `{spec: {controller: ""}}`, Want: []string{"spec.controller: Required value"}},
		{Name: "no domain", Diff: `{spec: {controller: ingress}}`, Want: []string{"spec.controller: Invalid value"}},
		{Name: "long", Diff: `{spec: {controller: example.com/` + strings.Repeat("a", 250) + `}}`, Want: []string{"spec.controller: Too long"}},
		{Name: "parameters", Diff: `{spec: {parameters: {apiGroup: example.com, kind: P, name: p}}}`},
		{Name: "bad parameters", Diff: `{spec: {parameters: {apiGroup: A_, kind: "", name: a/b}}}`,
			Want: []string{"spec.parameters.apiGroup: Invalid value", "spec.parameters.kind: Required value", "spec.parameters.name: Invalid value"}},
		{Name: "unknown scope", Diff: `{spec: {parameters: {kind: P, name: p, scope: World}}}`, Want: []string{"spec.parameters.scope: Unsupported value"}},
		{Name: "no namespace", Diff: `{spec: {parameters: {kind: P, name: p, scope: Namespace}}}`, Want: []string{"spec.parameters.namespace: Required value"}},
		{Name: "a bad namespace", Diff: `{spec: {parameters: {kind: P, name: p, scope: Namespace, namespace: a.b}}}`, Want: []string{"spec.parameters.namespace: Invalid value"}},
		{Name: "a namespace for all", Diff: `{spec: {parameters: {kind: P, name: p, namespace: a}}}`, Want: []string{"spec.parameters.namespace: Forbidden"}},
	})
	kindtest.Update(t, IngressClasses, class, []kindtest.Case{
		{Name: "another controller", Diff: `{spec: {controller: example.com/other}}`, Want: []string{"spec.controller: Invalid value"}},
	})
	kindtest.Shows(t, IngressClasses, kindtest.New(t, IngressClasses, class, ""), map[string]string{"Controller": "example.com/ingress", "Parameters": "<none>"})
	kindtest.Shows(t, IngressClasses, kindtest.New(t, IngressClasses, class, `{spec: {parameters: {apiGroup: x.y, kind: P, name: p}}}`), map[string]string{"Parameters": "P.x.y/p"})
}

func TestNetworkPolicies(t *testing.T) {
	const policy = `{spec: {podSelector: {matchLabels: {a: b}}}}`
	in := func(text string) string { return `{spec: {ingress: [` + text + `]}}` }
	kindtest.Create(t, NetworkPolicies, policy, []kindtest.Case{
		{Name: "good", Diff: in(`{ports: [{port: 80}, {port: http, protocol: UDP}, {port: 1, endPort: 9}, {}], from: [{podSelector: {}, namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}`)},
		{Name: "bad selector", Diff: `{spec: {podSelector: {matchExpressions: [{key: a, operator: In}]}}}`, Want: []string{"spec.podSelector.matchExpressions[0].values: Required value"}},
		{Name: "bad ports", Diff: in(`{ports: [{port: 0}, {port: a_b}, {port: 80, protocol: ICMP}]}`),
			Want: []string{"spec.ingress[0].ports[0].port: Invalid value", "spec.ingress[0].ports[1].port: Invalid value", "spec.ingress[0].ports[2].protocol: Unsupported value"}},
		{Name: "bad ranges of ports", Diff: in(`{ports: [{endPort: 5}, {port: http, endPort: 5}, {port: 9, endPort: 5}, {port: 9, endPort: 70000}]}`),
			Want: []string{"spec.ingress[0].ports[0].endPort: Invalid value", "spec.ingress[0].ports[1].endPort: Invalid value", "spec.ingress[0].ports[2].endPort: Invalid value", "spec.ingress[0].ports[3].endPort: Invalid value"}},
		{Name: "peers that are none", Diff: `{spec: {egress: [{to: [{}, {podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}, {namespaceSelector: {matchLabels: {a: "b c"}}}]}]}}`,
			Want: []string{"spec.egress[0].to[0]: Required value", "spec.egress[0].to[1]: Forbidden", "spec.egress[0].to[2].namespaceSelector.matchLabels: Invalid value"}},
		{Name: "bad blocks", Diff: in(`{from: [{ipBlock: {}}, {ipBlock: {cidr: 10.0.0.1}}, {ipBlock: {cidr: 10.0.0.1/8}}, {ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16, 10.0.0.0/8, x]}}]}`),
			Want: []string{"spec.ingress[0].from[0].ipBlock.cidr: Required value", "spec.ingress[0].from[1].ipBlock.cidr: Invalid value", "spec.ingress[0].from[2].ipBlock.cidr: Invalid value",
				"spec.ingress[0].from[3].ipBlock.except[0]: Invalid value", "spec.ingress[0].from[3].ipBlock.except[1]: Invalid value", "spec.ingress[0].from[3].ipBlock.except[2]: Invalid value"}},
		{Name: "unknown types", Diff: `{spec: {policyTypes: [Ingress, Sideways]}}`, Want: []string{"spec.policyTypes[1]: Unsupported value"}},
		{Name: "too many types", Diff: `{spec: {policyTypes: [Ingress, Egress, Ingress]}}`, Want: []string{"spec.policyTypes: Invalid value"}},
	})
	types := func(diff string) []networkingv1.PolicyType {
		return kindtest.New(t, NetworkPolicies, policy, diff).(*networkingv1.NetworkPolicy).Spec.PolicyTypes
	}
	if got := types(""); !slices.Equal(got, []networkingv1.PolicyType{"Ingress"}) {
		t.Errorf("a policy of nothing is about %v", got)
	}
	if got := types(`{spec: {egress: [{}]}}`); !slices.Equal(got, []networkingv1.PolicyType{"Ingress", "Egress"}) {
		t.Errorf("a policy with egress is about %v", got)
	}
	p := kindtest.New(t, NetworkPolicies, policy, in(`{ports: [{}], from: [{ipBlock: {cidr: "FD00:0::/64"}}]}`)).(*networkingv1.NetworkPolicy)
	if got := p.Spec.Ingress[0].Ports[0].Protocol; got == nil || *got != "TCP" {
		t.Errorf("protocol is %v", got)
	}
	if w := NetworkPolicies.Warn(p, nil); len(w) != 1 {
		t.Errorf("warns %q of an odd range", w)
	}
	kindtest.Shows(t, NetworkPolicies, p, map[string]string{"Pod-Selector": "a=b"})
	kindtest.Shows(t, NetworkPolicies, kindtest.New(t, NetworkPolicies, "", ""), map[string]string{"Pod-Selector": "<none>"})
}

func TestAddresses(t *testing.T) {
	const address = `{metadata: {name: 10.0.0.1}, spec: {parentRef: {resource: services, namespace: default, name: kubernetes}}}`
	kindtest.Create(t, IPAddresses, address, []kindtest.Case{
		{Name: "good"},
		{Name: "good, six", Diff: `{metadata: {name: "fd00::1"}}`},
		{Name: "no address", Diff: `{metadata: {name: a}}`, Want: []string{"metadata.name: Invalid value"}},
		{Name: "odd address", Diff: `{metadata: {name: "fd00:0::1"}}`, Want: []string{"metadata.name: Invalid value"}},
		{Name: "mapped address", Diff: `{metadata: {name: "::ffff:10.0.0.1"}}`, Want: []string{"metadata.name: Invalid value"}},
		{Name: "nobody's", Diff: `{spec: {parentRef: null}}`, Want: []string{"spec.parentRef: Required value"}},
		{Name: "somebody's", Diff: `{spec: {parentRef: {group: A_, resource: "", name: a/b, namespace: ".."}}}`,
			Want: []string{"spec.parentRef.group: Invalid value", "spec.parentRef.name: Invalid value", "spec.parentRef.namespace: Invalid value", "spec.parentRef.resource: Required value"}},
	})
	kindtest.Update(t, IPAddresses, address, []kindtest.Case{
		{Name: "another's", Diff: `{spec: {parentRef: {name: other}}}`, Want: []string{"spec.parentRef: Invalid value"}},
	})
	kindtest.Shows(t, IPAddresses, kindtest.New(t, IPAddresses, address, ""), map[string]string{"ParentRef": "services/default/kubernetes"})
	kindtest.Shows(t, IPAddresses, kindtest.New(t, IPAddresses, address, `{spec: {parentRef: {group: x.y, namespace: null}}}`), map[string]string{"ParentRef": "services.x.y/kubernetes"})
}

func TestServiceCIDRs(t *testing.T) {
	const one, two = `{spec: {cidrs: [10.0.0.0/16]}}`, `{spec: {cidrs: [10.0.0.0/16, "fd00::/64"]}}`
	kindtest.Create(t, ServiceCIDRs, one, []kindtest.Case{
		{Name: "one"},
		{Name: "two", Diff: two},
		{Name: "none", Diff: `{spec: null}`, Want: []string{"spec.cidrs: Required value"}},
		{Name: "three", Diff: `{spec: {cidrs: [10.0.0.0/16, "fd00::/64", 10.1.0.0/16]}}`, Want: []string{"spec.cidrs: Invalid value"}},
		{Name: "of one family", Diff: `{spec: {cidrs: [10.0.0.0/16, 10.1.0.0/16]}}`, Want: []string{"spec.cidrs: Invalid value"}},
		{Name: "bad", Diff: `{spec: {cidrs: [10.0.0.1/16, x]}}`, Want: []string{"spec.cidrs[0]: Invalid value", "spec.cidrs[1]: Invalid value"}},
	})
	kindtest.Update(t, ServiceCIDRs, one, []kindtest.Case{
		{Name: "a second family", Diff: two},
		{Name: "another", Diff: `{spec: {cidrs: [10.1.0.0/16]}}`, Want: []string{"spec.cidrs[0]: Invalid value"}},
		{Name: "others", Diff: `{spec: {cidrs: ["fd00::/64", 10.0.0.0/16]}}`, Want: []string{"spec.cidrs[0]: Invalid value"}},
		{Name: "one less", Old: two, Want: []string{"spec.cidrs: Invalid value"}},
	})
	kindtest.Status(t, ServiceCIDRs, one, []kindtest.Case{
		{Name: "ready", Diff: `{status: {conditions: [{type: Ready, status: "True", reason: R, lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`},
		{Name: "who knows", Diff: `{status: {conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`, Want: []string{"status.conditions[0].reason: Required value"}},
	})
	kindtest.Shows(t, ServiceCIDRs, kindtest.New(t, ServiceCIDRs, two, ""), map[string]string{"CIDRs": "10.0.0.0/16,fd00::/64"})
}
