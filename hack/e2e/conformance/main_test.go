package conformance

import (
	"fmt"
	"os"
	"testing"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"pilothouse.dev/hack/e2e/target"
)

// suite is the cluster under test with clients to it, and what became of the rows. Nil when no cluster was given.
var suite *world

type world struct {
	config  *rest.Config
	kube    kubernetes.Interface
	dyn     dynamic.Interface
	foreign bool // the cluster is somebody else's
	board   *board
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	o := parse()
	c, down, err := target.Open(o.cluster, "conformance")
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	defer down()
	if c == nil {
		fmt.Println("conformance: no cluster to test: give -cluster=namespaces or -kubeconfig=FILE (make conformance does)")
		return 0
	}
	if suite, err = connect(c); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	code := m.Run()
	suite.board.print(os.Stdout)
	if o.all && suite.board.short() {
		return 1
	}
	return code
}

// connect makes the clients and reads the list.
func connect(c *target.Target) (*world, error) {
	rows, err := readRows("rows.tsv")
	if err != nil {
		return nil, err
	}
	w := &world{board: newBoard(rows), foreign: c.Name == ""}
	if w.config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.Kubeconfig, err)
	}
	w.config.QPS = -1 // the server says when it is too much
	w.config.WarningHandler = rest.NoWarnings{}
	if w.kube, err = kubernetes.NewForConfig(w.config); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if w.dyn, err = dynamic.NewForConfig(w.config); err != nil {
		return nil, fmt.Errorf("making a client of any kind: %w", err)
	}
	return w, nil
}

func TestConformance(t *testing.T) {
	if suite == nil {
		t.Skip("no cluster was given")
	}
	tests := tests()
	for _, row := range suite.board.rows {
		test := tests[row.id]
		if test == nil {
			continue
		}
		t.Run(row.id, func(t *testing.T) {
			if !alone(row.id) { // those run before all others
				t.Parallel()
			}
			t.Cleanup(func() { suite.board.note(row.id, t) })
			test(newRow(t, suite, row))
		})
	}
}

// A test whose row is not in the list would never be run.
func TestEveryTestHasItsRow(t *testing.T) {
	rows, err := readRows("rows.tsv")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range rows {
		known[r.id] = true
	}
	for id := range tests() {
		if !known[id] {
			t.Errorf("%s has a test and is not in the list", id)
		}
	}
}
