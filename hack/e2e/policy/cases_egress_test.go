package policy

func egressCases() []example {
	return []example{
		{
			name:     "deny egress",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress]}`}},
			allowed:  func(from, _ pod, _ door) bool { return from.ns != "x" },
		}, {
			name:     "deny both",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Ingress, Egress]}`}},
			allowed:  func(from, to pod, _ door) bool { return from.ns != "x" && to.ns != "x" },
		}, {
			name:     "allow all egress beside a denial",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress]}`}, {"x", `{podSelector: {}, policyTypes: [Egress], egress: [{}]}`}},
			allowed:  everything,
		}, {
			name:     "rules of egress, types by default: ingress is denied as well",
			policies: []in{{"x", `{podSelector: {}, egress: [{to: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return (from.ns != "x" || to.ns == "w") && to.ns != "x" },
		}, {
			name:     "rules of egress in a policy of ingress: they say nothing",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Ingress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`}},
			allowed:  func(_, to pod, _ door) bool { return to.ns != "x" },
		}, {
			name:     "egress to a pod of the same namespace",
			policies: []in{{"x", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return from != pod{"x", "a"} || to == pod{"x", "b"} },
		}, {
			name:     "egress to a pod of another namespace, on a port",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: z}}, podSelector: {matchLabels: {pod: c}}}], ports: [{port: 81}]}]}`}},
			allowed:  func(from, to pod, at door) bool { return from.ns != "x" || to == pod{"z", "c"} && at == other },
		}, {
			name:     "egress to a port everywhere",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 80, protocol: UDP}, {port: 81}]}]}`}},
			allowed:  func(from, _ pod, at door) bool { return from.ns != "x" || at != web },
		}, {
			name:     "egress to a port by name: of who is called",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: serve-80-tcp}]}]}`}},
			allowed:  func(from, _ pod, at door) bool { return from.ns != "x" || at == web },
		}, {
			name:     "egress to a range of ports",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 81, endPort: 90}]}]}`}},
			allowed:  func(from, _ pod, at door) bool { return from.ns != "x" || at == other },
		}, {
			name: "both ends must agree",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`},
				{"w", `{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}], ports: [{port: 80}]}]}`}},
			allowed: func(from, to pod, at door) bool {
				leaves := from.ns != "x" || to.ns == "w"
				enters := to.ns != "w" || from == pod{"x", "a"} && at == web
				return leaves && enters
			},
		}, {
			name: "one end that disagrees is enough",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`},
				{"w", `{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {ns: z}}}]}]}`}},
			allowed: func(from, to pod, _ door) bool { return from.ns != "x" && (to.ns != "w" || from.ns == "z") },
		}, {
			name: "policies of egress add up",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`},
				{"x", `{podSelector: {matchLabels: {pod: c}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}]}`}},
			allowed: func(from, to pod, at door) bool {
				return from.ns != "x" || to.ns == "w" || from.name == "c" && to.ns == "x" && at == web
			},
		}, {
			name:     "egress through services: who is called is the pod, on its port",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: w}}}], ports: [{port: 81}]}]}`}},
			through:  true,
			allowed:  func(from, to pod, at door) bool { return from.ns != "x" || to.ns == "w" && at == other },
		},
	}
}

func blockCases() []example {
	return []example{
		{
			name:     "a block of one address",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "${w/b}"}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from == pod{"w", "b"} },
		}, {
			name:     "a block with an exception",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "${all}", except: ["${w/b}", "${z/c}"]}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from != pod{"w", "b"} && from != pod{"z", "c"} },
		}, {
			name:     "an exception is of its block only: another peer may allow it",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "${all}", except: ["${w/b}", "${z/c}"]}}, {namespaceSelector: {matchLabels: {ns: w}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from != pod{"z", "c"} },
		}, {
			name:     "an exception is of its block only: another block may allow it",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "${all}", except: ["${w/b}", "${z/c}"]}}]}, {from: [{ipBlock: {cidr: "${z/c}"}}], ports: [{port: 80}]}]}`}},
			allowed: func(from, to pod, at door) bool {
				return to.ns != "x" || from != pod{"w", "b"} && (from != pod{"z", "c"} || at == web)
			},
		}, {
			name:     "egress to a block, on a port",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: "${w/b}"}}, {ipBlock: {cidr: "${z/a}"}}], ports: [{port: 80}]}]}`}},
			allowed: func(from, to pod, at door) bool {
				return from.ns != "x" || (to == pod{"w", "b"} || to == pod{"z", "a"}) && at == web
			},
		}, {
			name:     "egress to a block with an exception",
			policies: []in{{"x", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: "${all}", except: ["${w/b}"]}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return from != pod{"x", "a"} || to != pod{"w", "b"} },
		}, {
			name:     "a block in which no pod is",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}`}},
			allowed:  func(_, to pod, _ door) bool { return to.ns != "x" },
		},
	}
}
