package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

// TestRun starts two of the daemon: one leads and works; when it stops, the other takes over.
func TestRun(t *testing.T) {
	c := testcluster.Start(t, "--advertise-address=192.0.2.1")
	w := &world{T: t, cluster: c, kube: c.Kube}
	var cfg Config
	app := &cli.App{Flags: flags(&cfg), Action: func(*cli.Context) error { return nil }}
	err := app.Run([]string{"controller-manager", "--kubeconfig=" + c.Kubeconfig("system:kube-controller-manager"), "--controllers=serviceaccount", "--secure-port=0"})
	if err != nil {
		t.Fatal(err)
	}
	start := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, cfg, logging.ForTest(t).Named(name)) }()
		stopped := false
		stop = func() {
			if stopped {
				return
			}
			stopped = true
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s ended with %v", name, err)
			}
		}
		t.Cleanup(stop)
		return stop
	}
	holder := func() string {
		l, err := c.Kube.CoordinationV1().Leases("kube-system").Get(t.Context(), "kube-controller-manager", metav1.GetOptions{})
		if err != nil || l.Spec.HolderIdentity == nil {
			return ""
		}
		return *l.Spec.HolderIdentity
	}
	stop := start("first")
	w.until("a leader", func() error {
		if holder() == "" {
			return errors.New("nobody holds the lease")
		}
		return nil
	})
	first := holder()
	start("second")
	w.namespace("one")
	stop()
	began := time.Now()
	w.until("the second to take over", func() error {
		if h := holder(); h == "" || h == first {
			return fmt.Errorf("the lease is held by %q", h)
		}
		return nil
	})
	t.Logf("taken over after %v", time.Since(began))
	w.namespace("two")
	accounts := must(c.Kube.CoreV1().ServiceAccounts(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=default"}))(w)
	in := map[string]corev1.ServiceAccount{}
	for _, a := range accounts.Items {
		in[a.Namespace] = a
	}
	if _, ok := in["two"]; !ok {
		t.Errorf("service accounts in %v", in)
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no kubeconfig":      {},
		"no cluster range":   {AllocateNodeCIDRs: true, Kubeconfig: "x"},
		"a range that is no": {ClusterCIDR: "10.244.0.0", Kubeconfig: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(t.Context(), cfg, logging.ForTest(t)); err == nil {
				t.Error("runs")
			}
		})
	}
}
