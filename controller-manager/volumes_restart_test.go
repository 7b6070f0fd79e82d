package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

// TestVolumesAcrossRestarts ends the binder again and again while it binds: the next one goes on, nothing is bound twice, and one
// that finds all well writes nothing.
func TestVolumesAcrossRestarts(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, "--advertise-address=192.0.2.1")
	w := &world{T: t, cluster: c, kube: c.Kube}
	var cfg Config
	app := &cli.App{Flags: flags(&cfg), Action: func(*cli.Context) error { return cfg.check() }}
	err := app.Run([]string{"controller-manager", "--kubeconfig=" + c.Kubeconfig("system:kube-controller-manager"),
		"--controllers=persistentvolume-binder,serviceaccount", "--secure-port=0", "--leader-elect=false"})
	if err != nil {
		t.Fatal(err)
	}
	start := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, cfg, logging.ForTest(t)) }()
		return func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		}
	}
	const pairs = 60
	for i := range pairs {
		w.claim("default", fmt.Sprintf("c%02d", i), "1Gi", "pairs")
		w.volume(fmt.Sprintf("v%02d", i), "1Gi", "pairs")
	}
	restarts := 0
	for want := 1; want < pairs; want = max(want+10, 1) {
		stop := start()
		w.until(fmt.Sprintf("%d claims to be bound", want), func() error {
			n, err := w.wedded("default", "v")
			if err != nil {
				t.Error(err)
			}
			if n < want {
				return fmt.Errorf("%d are", n)
			}
			want = n
			return nil
		})
		stop()
		restarts++
	}
	t.Logf("%d binders", restarts)
	stop := start()
	w.until("all to be bound", func() error {
		if n, err := w.wedded("default", "v"); n != pairs || err != nil {
			return fmt.Errorf("%d are: %w", n, err)
		}
		for i := range pairs {
			if v := w.getVolume(fmt.Sprintf("v%02d", i)); v.Status.Phase != corev1.VolumeBound {
				return fmt.Errorf("volume %s is %s", v.Name, v.Status.Phase)
			}
		}
		return nil
	})
	stop()
	versions := func() map[types.UID]string {
		of := map[types.UID]string{}
		for _, c := range must(w.kube.CoreV1().PersistentVolumeClaims("default").List(t.Context(), metav1.ListOptions{}))(w).Items {
			of[c.UID] = c.ResourceVersion
		}
		for _, v := range must(w.kube.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{}))(w).Items {
			of[v.UID] = v.ResourceVersion
		}
		return of
	}
	before := versions()
	stop = start()
	defer stop()
	// What comes after everything else in its queue is bound: so everything else has been looked at.
	w.claim("default", "last", "1Gi", "last")
	w.volume("last", "1Gi", "last")
	w.bound("default", "last", "last")
	after := versions()
	for uid, version := range before {
		if after[uid] != version {
			t.Errorf("%s was written, though nothing had changed", uid)
		}
	}
}
