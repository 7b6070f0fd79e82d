package policy

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"pilothouse.dev/hack/e2e/target"
)

// suite leads to the cluster under test. Nil when none was given.
var suite *rest.Config

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	c, down, err := target.Open(parse(), "policy")
	if err != nil {
		fmt.Fprintln(os.Stderr, "policy:", err)
		return 1
	}
	defer down()
	if c == nil {
		fmt.Println("policy: no cluster to test: give -cluster=namespaces or -kubeconfig=FILE")
		return m.Run()
	}
	if suite, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		fmt.Fprintf(os.Stderr, "policy: reading %s: %v\n", c.Kubeconfig, err)
		return 1
	}
	suite.QPS = -1 // the server says when it is too much
	suite.WarningHandler = rest.NoWarnings{}
	return m.Run()
}

// TestPolicies makes the policies of each case and looks at the whole matrix.
func TestPolicies(t *testing.T) {
	if suite == nil {
		t.Skip("no cluster was given")
	}
	w := newWorld(t)
	w.becomes(t, "before any policy", false, everything)
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			w.apply(t, c.policies...)
			w.becomes(t, c.name, c.through, c.allowed)
		})
	}
	t.Run("changes", func(t *testing.T) { changes(t, w) })
	t.Run("an open connection goes on", func(t *testing.T) { established(t, w) })
	t.Run("nodes", func(t *testing.T) { fromNodes(t, w) })
	t.Run("nobody talks to anybody, and the nodes' probes go on", func(t *testing.T) {
		for _, ns := range letters {
			w.apply(t, in{ns, `{podSelector: {}, policyTypes: [Ingress, Egress]}`})
		}
		w.becomes(t, "everything denied", false, nothing)
		w.staysReady(t)
	})
	w.becomes(t, "after the last policy", false, everything)
}

func cases() []example { return slices.Concat(ingressCases(), egressCases(), blockCases()) }

// TestCasesAreWellMade needs no cluster: each case has a name of its own and policies that can be read.
func TestCasesAreWellMade(t *testing.T) {
	w := &world{prefix: "p-", pods: map[pod]*standing{}}
	for p := range all() {
		w.pods[p] = &standing{ip: "192.0.2.1"}
	}
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.name] || len(c.policies) == 0 {
			t.Errorf("%q is there twice or has no policy", c.name)
		}
		seen[c.name] = true
		for _, p := range c.policies {
			if !slices.Contains(letters, p.ns) {
				t.Errorf("%q: there is no namespace %q", c.name, p.ns)
			}
			w.spec(t, p)
		}
	}
}
