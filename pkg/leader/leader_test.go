package leader_test

import (
	"context"
	"testing"
	"time"

	"pilothouse.dev/pkg/leader"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

// TestOneLeads runs two equals against a real API server: one works, and when it stops the other does.
func TestOneLeads(t *testing.T) {
	c := testcluster.Start(t)
	leads := make(chan string, 10)
	start := func(name string) (stop func() error) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- leader.Run(ctx, logging.ForTest(t), leader.Config{
				Kube: c.Kube, Namespace: "kube-system", Name: "test", Identity: name, Duration: 2 * time.Second,
			}, func(ctx context.Context) error {
				leads <- name
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		return func() error {
			cancel()
			return <-done
		}
	}
	wait := func(want string) {
		t.Helper()
		select {
		case got := <-leads:
			if got != want {
				t.Fatalf("%s leads, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s does not come to lead", want)
		}
	}
	stopA := start("a")
	wait("a")
	stopB := start("b")
	if err := stopA(); err != context.Canceled {
		t.Errorf("a ended with %v", err)
	}
	wait("b")
	if err := stopB(); err != context.Canceled {
		t.Errorf("b ended with %v", err)
	}
	select {
	case who := <-leads:
		t.Errorf("%s led once more", who)
	default:
	}
}

// TestNeverLed ends before the lease was ever held.
func TestNeverLed(t *testing.T) {
	c := testcluster.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := leader.Run(ctx, logging.ForTest(t), leader.Config{Kube: c.Kube, Namespace: "kube-system", Name: "none", Identity: "a"},
		func(context.Context) error { t.Error("led"); return nil })
	if err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// TestKeepLeadsAgain takes the API server away until the lease is lost: the term ends, and another begins when it is back.
func TestKeepLeadsAgain(t *testing.T) {
	c := testcluster.Start(t)
	began, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- leader.Keep(ctx, logging.ForTest(t), leader.Config{
			Kube: c.Kube, Namespace: "kube-system", Name: "keep", Identity: "a", Duration: 2 * time.Second,
		}, func(ctx context.Context) error {
			began <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return ctx.Err()
		})
	}()
	wait := func(what string, from chan struct{}) {
		t.Helper()
		select {
		case <-from:
		case err := <-done:
			t.Fatalf("ended: %v", err)
		case <-time.After(time.Minute):
			t.Fatalf("no %s", what)
		}
	}
	wait("first term", began)
	c.KillAPIServer()
	wait("end of the first term", ended)
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	wait("second term", began)
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("got %v", err)
	}
}
