package policy

import (
	"fmt"
	"os"
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
		return 0
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
	for _, c := range append(ingressCases(), append(egressCases(), blockCases()...)...) {
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
