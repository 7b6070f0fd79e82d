package policy

// What is in the rules below is said by https://kubernetes.io/docs/concepts/services-networking/network-policies/ and the API's reference.

func ingressCases() []example {
	return []example{
		{
			name:     "deny ingress",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Ingress]}`}},
			allowed:  func(_, to pod, _ door) bool { return to.ns != "x" },
		}, {
			name:     "deny ingress, types by default",
			policies: []in{{"x", `{podSelector: {}}`}},
			allowed:  func(_, to pod, _ door) bool { return to.ns != "x" },
		}, {
			name:     "allow all ingress beside a denial",
			policies: []in{{"x", `{podSelector: {}, policyTypes: [Ingress]}`}, {"x", `{podSelector: {}, ingress: [{}]}`}},
			allowed:  everything,
		}, {
			name:     "pods of the same namespace",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from.ns == "x" },
		}, {
			name:     "a pod of the same namespace, by label",
			policies: []in{{"x", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to != pod{"x", "a"} || from == pod{"x", "b"} },
		}, {
			name:     "a namespace, by label",
			policies: []in{{"x", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to != pod{"x", "a"} || from.ns == "w" },
		}, {
			name:     "a namespace, by name",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: "${z}"}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from.ns == "z" },
		}, {
			name:     "all namespaces",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`}},
			allowed:  everything,
		}, {
			name:     "pods of a label in all namespaces",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from.name == "b" },
		}, {
			name: "namespaces by an expression",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: In, values: [w, none]}]}}]}]}`},
				{"z", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: Exists}, {key: ns, operator: NotIn, values: [w]}]}}]}]}`}},
			allowed: func(from, to pod, _ door) bool {
				return (to.ns != "x" || from.ns == "w") && (to.ns != "z" || from.ns != "w")
			},
		}, {
			name: "pods by an expression, who is denied and who is allowed",
			policies: []in{{"x", `{podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [a]}]},
  ingress: [{from: [{podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}, {key: missing, operator: DoesNotExist}]}}]}]}`}},
			allowed: func(from, to pod, _ door) bool {
				return to.ns != "x" || to.name == "a" || from == pod{"x", "a"} || from == pod{"x", "b"}
			},
		}, {
			name:     "a namespace and a pod in one peer: both",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: w}}, podSelector: {matchLabels: {pod: b}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from == pod{"w", "b"} },
		}, {
			name:     "a namespace and a pod in two peers: either",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: w}}}, {podSelector: {matchLabels: {pod: b}}}]}]}`}},
			allowed:  func(from, to pod, _ door) bool { return to.ns != "x" || from.ns == "w" || from == pod{"x", "b"} },
		}, {
			name:     "a pod's selector that selects nobody: no effect",
			policies: []in{{"x", `{podSelector: {matchLabels: {pod: nobody}}, policyTypes: [Ingress, Egress]}`}},
			allowed:  everything,
		}, {
			name:     "peers that select nobody: nobody is allowed",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: nobody}}}, {namespaceSelector: {matchLabels: {ns: none}}}]}]}`}},
			allowed:  func(_, to pod, _ door) bool { return to.ns != "x" },
		}, {
			name:     "a port by number, of TCP by default",
			policies: []in{{"x", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`}},
			allowed:  func(_, to pod, at door) bool { return to.ns != "x" || at == web },
		}, {
			name:     "a port from everywhere: an empty list of peers",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [], ports: [{port: 81, protocol: TCP}]}]}`}},
			allowed:  func(_, to pod, at door) bool { return to.ns != "x" || at == other },
		}, {
			name:     "a port by name",
			policies: []in{{"x", `{podSelector: {}, ingress: [{ports: [{port: serve-81-tcp}]}]}`}},
			allowed:  func(_, to pod, at door) bool { return to.ns != "x" || at == other },
		}, {
			name:     "a port of UDP, by number and by name",
			policies: []in{{"x", `{podSelector: {}, ingress: [{ports: [{port: 80, protocol: UDP}]}]}`}, {"w", `{podSelector: {}, ingress: [{ports: [{port: serve-80-udp, protocol: UDP}]}]}`}},
			allowed:  func(_, to pod, at door) bool { return to.ns == "z" || at == packets },
		}, {
			name:     "a port by a name that is of another protocol: nobody",
			policies: []in{{"x", `{podSelector: {}, ingress: [{ports: [{port: serve-80-udp, protocol: TCP}]}]}`}},
			allowed:  func(_, to pod, _ door) bool { return to.ns != "x" },
		}, {
			name:     "a protocol without a port",
			policies: []in{{"x", `{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}`}},
			allowed:  func(_, to pod, at door) bool { return to.ns != "x" || at == packets },
		}, {
			name:     "a range of ports",
			policies: []in{{"x", `{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 81}]}]}`}},
			allowed:  func(_, to pod, at door) bool { return to.ns != "x" || at != packets },
		}, {
			name:     "a range of ports, by its ends",
			policies: []in{{"x", `{podSelector: {}, ingress: [{ports: [{port: 1, endPort: 80}]}]}`}, {"w", `{podSelector: {}, ingress: [{ports: [{port: 81, endPort: 65535}, {port: 80, endPort: 80, protocol: UDP}]}]}`}},
			allowed: func(_, to pod, at door) bool {
				return (to.ns != "x" || at == web) && (to.ns != "w" || at != web)
			},
		}, {
			name: "rules add up, each with its own ports",
			policies: []in{{"x", `{podSelector: {}, ingress: [
  {from: [{namespaceSelector: {matchLabels: {ns: w}}}], ports: [{port: 80}]}, {from: [{namespaceSelector: {matchLabels: {ns: z}}}], ports: [{port: 81}, {port: 80, protocol: UDP}]}]}`}},
			allowed: func(from, to pod, at door) bool {
				return to.ns != "x" || from.ns == "w" && at == web || from.ns == "z" && at != web
			},
		}, {
			name: "policies add up",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`},
				{"x", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: z}}}], ports: [{port: 80}]}]}`}},
			allowed: func(from, to pod, at door) bool {
				return to.ns != "x" || from.ns == "w" || to.name == "a" && from.ns == "z" && at == web
			},
		}, {
			name:     "through services: who calls is seen, on the pod's port",
			policies: []in{{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: w}}}], ports: [{port: 80}]}]}`}},
			through:  true,
			allowed:  func(from, to pod, at door) bool { return to.ns != "x" || from.ns == "w" && at == web },
		},
	}
}
