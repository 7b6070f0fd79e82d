package policy

import (
	"strings"
	"testing"
)

func first(name string) string  { return name[:1] }
func second(name string) string { return name[2:] }

// Every case is a story of turns. Each changes something and tells who is
// answered then; all 9 × 9 × 3 calls are made over both families, and what the
// case expects is compared with a plain reading of the documentation, too.
func TestPolicies(t *testing.T) {
	m := newMatrix(t)
	m.write(t)
	m.check(t, probes(), func(from, to, port string) bool { return true })
	for _, c := range policyCases {
		t.Run(c.name, func(t *testing.T) {
			defer m.reset(t)
			for i, turn := range c.turns {
				turn.change(t, m)
				m.write(t)
				want := func(from, to, port string) bool { return from == to || turn.want(from, to, port) }
				for _, p := range probes() {
					if naive := m.naive(p.from, p.to, p.port, p.v6); naive != want(p.from, p.to, p.port) {
						t.Fatalf("turn %d: %s: the case wants %v, the documentation %v", i, p, !naive, naive)
					}
				}
				m.ForgetFlows(t)
				m.check(t, probes(), want)
				if t.Failed() {
					t.Fatalf("in turn %d", i)
				}
			}
		})
	}
	if left := m.nft(t, "list", "tables"); left != "" {
		t.Errorf("without policies there is still %s", left)
	}
}

// reset is as in the beginning.
func (m *matrix) reset(t *testing.T) {
	for name := range m.policies {
		m.delete(name)
	}
	for _, name := range podNames {
		m.label(name, map[string]string{"pod": second(name)})
		m.labelNamespace(first(name), map[string]string{"ns": first(name)})
	}
	m.write(t)
}

type turn struct {
	change func(t *testing.T, m *matrix)
	want   func(from, to, port string) bool
}

type policyCase struct {
	name  string
	turns []turn
}

// apply is a turn's change: policies by name.
func apply(pairs ...string) func(*testing.T, *matrix) {
	return func(t *testing.T, m *matrix) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			m.apply(t, pairs[i], pairs[i+1])
		}
	}
}

func one(name, spec string, want func(from, to, port string) bool) []turn {
	return []turn{{apply(name, spec), want}}
}

// toXA is what all cases that isolate x/a for ingress have in common.
func toXA(allowed func(from, port string) bool) func(from, to, port string) bool {
	return func(from, to, port string) bool { return to != "x/a" || allowed(from, port) }
}

// fromXA is the same for egress.
func fromXA(allowed func(to, port string) bool) func(from, to, port string) bool {
	return func(from, to, port string) bool { return from != "x/a" || allowed(to, port) }
}

func all(from, to, port string) bool { return true }

var policyCases = []policyCase{
	{"deny all ingress of a namespace", one("x/deny", `{podSelector: {}, policyTypes: [Ingress]}`,
		func(from, to, port string) bool { return first(to) != "x" })},
	{"no policyTypes and no rules isolate for ingress", one("x/deny", `{podSelector: {}}`,
		func(from, to, port string) bool { return first(to) != "x" })},
	{"deny all egress of a namespace", one("x/deny", `{podSelector: {}, policyTypes: [Egress]}`,
		func(from, to, port string) bool { return first(from) != "x" })},
	{"deny all both ways", one("x/deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`,
		func(from, to, port string) bool { return first(from) != "x" && first(to) != "x" })},
	{"allow all ingress, though another policy denies", []turn{{apply(
		"x/deny", `{podSelector: {}}`, "x/allow", `{podSelector: {}, ingress: [{}]}`), all}}},
	{"allow all egress, though another policy denies", []turn{{apply(
		"x/deny", `{podSelector: {}, policyTypes: [Egress]}`, "x/allow", `{podSelector: {}, policyTypes: [Egress], egress: [{}]}`), all}}},
	{"egress rules alone isolate for ingress, too", one("x/p", `{podSelector: {matchLabels: {pod: a}}, egress: [{}]}`,
		toXA(func(from, port string) bool { return false }))},
	{"policyTypes Ingress: egress rules mean nothing", one("x/p", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress], egress: [{to: [{podSelector: {}}]}], ingress: [{}]}`, all)},
	{"policyTypes Egress: ingress rules mean nothing", one("x/p", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], ingress: [], egress: [{}]}`, all)},
	{"ingress from pods of the namespace by label", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`,
		toXA(func(from, port string) bool { return from == "x/b" }))},
	{"ingress from all pods of the namespace", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}]}]}`,
		toXA(func(from, port string) bool { return first(from) == "x" }))},
	{"ingress from a namespace by label", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}]}]}`,
		toXA(func(from, port string) bool { return first(from) == "y" }))},
	{"ingress from all namespaces", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {}}]}]}`, all)},
	{"namespace and pod selectors of one peer both hold", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: b}}}]}]}`,
		toXA(func(from, port string) bool { return from == "y/b" }))},
	{"namespace and pod selectors of two peers: one suffices", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}, {podSelector: {matchLabels: {pod: b}}}]}]}`,
		toXA(func(from, port string) bool { return first(from) == "y" || from == "x/b" }))},
	{"matchExpressions of pods and namespaces", one("x/p", `
podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, missing]}]}
ingress:
- from:
  - namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x, z]}]}
    podSelector: {matchExpressions: [{key: pod, operator: Exists}, {key: pod, operator: NotIn, values: [c]}]}
  - namespaceSelector: {matchExpressions: [{key: ns, operator: In, values: [z]}]}
    podSelector: {matchExpressions: [{key: other, operator: DoesNotExist}, {key: pod, operator: In, values: [c]}]}
`, toXA(func(from, port string) bool { return from == "y/a" || from == "y/b" || from == "z/c" }))},
	{"ingress to one port by number", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 81}]}]}`,
		toXA(func(from, port string) bool { return port == "81/tcp" }))},
	{"ingress to one port of UDP", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80, protocol: UDP}]}]}`,
		toXA(func(from, port string) bool { return port == "80/udp" }))},
	{"ingress to all ports of a protocol", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{protocol: TCP}]}]}`,
		toXA(func(from, port string) bool { return port != "80/udp" }))},
	{"ingress to a named port", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: admin}]}]}`,
		toXA(func(from, port string) bool { return port == "81/tcp" }))},
	{"a name is of one protocol", one("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: dns}, {port: web, protocol: UDP}]}]}`,
		toXA(func(from, port string) bool { return false }))},
	{"a range of ports", []turn{
		{apply("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 75, endPort: 80}]}]}`), toXA(func(from, port string) bool { return port == "80/tcp" })},
		{apply("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80, endPort: 99}]}]}`), toXA(func(from, port string) bool { return port != "80/udp" })},
		{apply("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 82, endPort: 65535}]}]}`), toXA(func(from, port string) bool { return false })}}},
	{"several ports in one rule, and rules add up", one("x/p", `
podSelector: {matchLabels: {pod: a}}
ingress:
- from: [{podSelector: {matchLabels: {pod: b}}}]
  ports: [{port: 80}, {port: 80, protocol: UDP}]
- from: [{namespaceSelector: {matchLabels: {ns: "y"}}}]
  ports: [{port: 81}]
`, toXA(func(from, port string) bool {
		return from == "x/b" && port != "81/tcp" || first(from) == "y" && port == "81/tcp"
	}))},
	{"policies add up", []turn{
		{apply("x/one", `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}`), toXA(func(from, port string) bool { return port == "80/tcp" })},
		{apply("x/two", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 81}]}]}`), func(from, to, port string) bool {
			return first(to) != "x" || to == "x/a" && port == "80/tcp" || first(from) == "y" && port == "81/tcp"
		}},
		{apply("x/three", `{podSelector: {matchLabels: {pod: a}}, ingress: [{}]}`), func(from, to, port string) bool {
			return first(to) != "x" || to == "x/a" || first(from) == "y" && port == "81/tcp"
		}}}},
	{"egress to pods of the namespace", one("x/p", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}`,
		fromXA(func(to, port string) bool { return to == "x/b" }))},
	{"egress to a namespace and a port", one("x/p", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: z}}}], ports: [{port: 80}]}]}`,
		fromXA(func(to, port string) bool { return first(to) == "z" && port == "80/tcp" }))},
	{"egress to a named port: the peer says which", []turn{{func(t *testing.T, m *matrix) {
		m.apply(t, "x/p", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: web}]}]}`)
		p := m.pods["y/a"].DeepCopy()
		p.Spec.Containers[0].Ports[0].ContainerPort, p.Spec.Containers[0].Ports[1].ContainerPort = 81, 80
		m.setPod(p)
	}, fromXA(func(to, port string) bool { return port == "81/tcp" && to == "y/a" || port == "80/tcp" && to != "y/a" })},
		{func(t *testing.T, m *matrix) {
			p := m.pods["y/a"].DeepCopy()
			p.Spec.Containers[0].Ports[0].ContainerPort, p.Spec.Containers[0].Ports[1].ContainerPort = 80, 81
			m.setPod(p)
		}, fromXA(func(to, port string) bool { return port == "80/tcp" })}}},
	{"egress and ingress: both ends must allow", []turn{
		{apply("x/out", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}}]}]}`,
			"y/in", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: b}}}]}]}`),
			func(from, to, port string) bool {
				return (from != "x/a" || first(to) == "y") && (to != "y/a" || from == "x/b")
			}},
		{apply("y/in", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}], ports: [{port: 80}]}]}`),
			func(from, to, port string) bool {
				return (from != "x/a" || first(to) == "y") && (to != "y/a" || first(from) == "x" && port == "80/tcp")
			}}}},
	{"an update replaces what was allowed", []turn{
		{apply("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`), toXA(func(from, port string) bool { return from == "x/b" })},
		{apply("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]}`), toXA(func(from, port string) bool { return from == "x/c" })},
		{apply("x/p", `{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]}`), func(from, to, port string) bool { return to != "x/b" || from == "x/c" }}}},
	{"a pod's labels change who it is and who isolates it", []turn{
		{apply("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {role: client}}}]}]}`), toXA(func(from, port string) bool { return false })},
		{func(t *testing.T, m *matrix) { m.label("z/b", map[string]string{"pod": "b", "role": "client"}) }, toXA(func(from, port string) bool { return from == "z/b" })},
		{func(t *testing.T, m *matrix) { m.label("x/c", map[string]string{"pod": "a"}) }, func(from, to, port string) bool { return to != "x/a" && to != "x/c" || from == "z/b" }},
		{func(t *testing.T, m *matrix) {
			m.label("x/c", map[string]string{"pod": "c"})
			m.label("z/b", map[string]string{"pod": "b"})
		}, toXA(func(from, port string) bool { return false })}}},
	{"a namespace's labels change who its pods are", []turn{
		{apply("x/p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: web}}}]}]}`), toXA(func(from, port string) bool { return false })},
		{func(t *testing.T, m *matrix) { m.labelNamespace("y", map[string]string{"ns": "y", "team": "web"}) }, toXA(func(from, port string) bool { return first(from) == "y" })},
		{func(t *testing.T, m *matrix) { m.labelNamespace("y", map[string]string{"ns": "y", "team": "db"}) }, toXA(func(from, port string) bool { return false })}}},
	{"a policy is deleted", []turn{
		{apply("x/p", `{podSelector: {}}`, "y/p", `{podSelector: {}}`), func(from, to, port string) bool { return first(to) == "z" }},
		{func(t *testing.T, m *matrix) { m.delete("x/p") }, func(from, to, port string) bool { return first(to) != "y" }},
		{func(t *testing.T, m *matrix) { m.delete("y/p") }, all}}},
	{"a policy of another namespace selects nobody here", one("y/p", `{podSelector: {matchLabels: {ns: x}}}`, all)},
	{"many stacked policies", []turn{{func(t *testing.T, m *matrix) {
		for _, ns := range []string{"x", "y", "z"} {
			m.apply(t, ns+"/deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`)
			m.apply(t, ns+"/inside", `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}`)
			m.apply(t, ns+"/a-to-web", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}`)
			m.apply(t, ns+"/b-serves", `{podSelector: {matchLabels: {pod: b}}, ingress: [{ports: [{port: 80, endPort: 90}]}]}`)
		}
	}, func(from, to, port string) bool {
		return first(from) == first(to) || second(from) == "a" && second(to) == "b" && port == "80/tcp"
	}}}},
}

// Blocks name addresses of one family; the other is not allowed by them.
func TestBlocks(t *testing.T) {
	m := newMatrix(t)
	calls := func(v6 bool) []probe {
		var out []probe
		for _, from := range append([]string{"host", "node"}, podNames...) {
			for _, port := range portNames {
				out = append(out, probe{from, "x/a", port, v6})
			}
		}
		return append(out, probe{"x/a", "host", "80/tcp", v6}, probe{"x/a", "node", "80/tcp", v6}, probe{"x/a", "y/b", "80/udp", v6}, probe{"x/b", "host", "80/tcp", v6})
	}
	for _, c := range []struct {
		name, spec string
		v4, v6     func(from, to, port string) bool
	}{
		{"ingress from one address outside", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: HOST/32}}]}]}`,
			toXA(func(from, port string) bool { return from == "host" }), toXA(func(from, port string) bool { return false })},
		{"ingress from one address of IPv6", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: "HOST6/128"}}]}]}`,
			toXA(func(from, port string) bool { return false }), toXA(func(from, port string) bool { return from == "host" })},
		{"ingress from everywhere but one", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [HOST/32]}}]}]}`,
			toXA(func(from, port string) bool { return from != "host" }), toXA(func(from, port string) bool { return false })},
		{"ingress from both families, pods excepted", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}}, {ipBlock: {cidr: "::/0", except: ["fd00:10:244::/48"]}}]}]}`,
			toXA(func(from, port string) bool { return from == "host" }), toXA(func(from, port string) bool { return from == "host" })},
		{"what one block excepts another allows", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}}, {ipBlock: {cidr: XB/32}}, {podSelector: {matchLabels: {pod: c}}}]}]}`,
			toXA(func(from, port string) bool { return from == "host" || from == "x/b" || from == "x/c" }), toXA(func(from, port string) bool { return from == "x/c" })},
		{"blocks with ports", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 198.18.0.0/16}}], ports: [{port: 81}]}, {from: [{ipBlock: {cidr: HOST/32}}], ports: [{port: 80, protocol: UDP}]}]}`,
			toXA(func(from, port string) bool { return from == "host" && port != "80/tcp" }), toXA(func(from, port string) bool { return false })},
		{"egress to a block", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 198.18.0.0/16, except: [NODE/32]}}]}]}`,
			fromXA(func(to, port string) bool { return to == "host" }), fromXA(func(to, port string) bool { return false })},
		{"egress to the pod's own node", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: NODE/32}}]}]}`,
			fromXA(func(to, port string) bool { return to == "node" }), fromXA(func(to, port string) bool { return false })},
		{"selectors do not mean the node nor the host", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}]}], egress: [{to: [{namespaceSelector: {}}]}]}`,
			func(from, to, port string) bool {
				return from != "host" && (from != "x/a" || to == "y/b") || from == "host" && to != "x/a"
			},
			func(from, to, port string) bool {
				return from != "host" && (from != "x/a" || to == "y/b") || from == "host" && to != "x/a"
			}},
		{"the node reaches its pods whatever is denied", `{podSelector: {}, policyTypes: [Ingress, Egress]}`,
			func(from, to, port string) bool { return from == "node" }, func(from, to, port string) bool { return from == "node" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.apply(t, "x/p", c.spec)
			m.write(t)
			for i, want := range []func(from, to, port string) bool{c.v4, c.v6} {
				want := func(from, to, port string) bool { return from == to || from == "node" || want(from, to, port) }
				for _, p := range calls(i == 1) {
					if naive := m.naive(p.from, p.to, p.port, p.v6); naive != want(p.from, p.to, p.port) {
						t.Fatalf("%s: the case wants %v, the documentation %v", p, !naive, naive)
					}
				}
				m.check(t, calls(i == 1), want)
			}
			if out := m.nft(t, "list", "ruleset"); !strings.Contains(out, "known connections go on") {
				t.Errorf("the nft tool lists\n%s", out)
			}
		})
	}
}
