package pods

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/pkg/logging"
)

// halfway joins pods to the network, but then no sandbox comes of it; and the first time a pod is taken off the network again, that fails.
type halfway struct {
	*stage
	joined   map[string]bool
	refusals int
}

func (a *halfway) CreateSandbox(ctx context.Context, spec containers.SandboxSpec) (containers.Sandbox, error) {
	if _, err := spec.Connect(ctx, "/run/netns/x"); err != nil {
		return containers.Sandbox{}, err
	}
	return containers.Sandbox{}, errors.New("the runtime is away")
}

type halfwayNetwork struct{ *halfway }

func (a halfwayNetwork) Setup(_ context.Context, p network.Pod) (network.Attachment, error) {
	a.joined[p.Key] = true
	return network.Attachment{}, nil
}

func (a halfwayNetwork) Teardown(_ context.Context, _, podKey string) error {
	if a.refusals++; a.refusals == 1 {
		return errors.New("the network is away")
	}
	delete(a.joined, podKey)
	return nil
}

func (a halfwayNetwork) Restore([]network.Held) {}

// A pod that goes before it had a sandbox leaves nothing in the network: neither an address nor a host port.
func TestNothingStaysInTheNetworkWithoutASandbox(t *testing.T) {
	a := &halfway{stage: &stage{}, joined: map[string]bool{}}
	parts := a.parts()
	parts.Sandboxes, parts.Network = a, halfwayNetwork{a}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	w := newWorker(p, &Config{Root: t.TempDir()}, parts, logging.ForTest(t))
	if _, err := doSandbox(t.Context(), w, input{pod: p}); err == nil || !a.joined["u"] {
		t.Fatalf("%v, joined: %v: this test shows nothing", err, a.joined)
	}
	if err := undoSandbox(t.Context(), w, input{pod: p}); err != nil || a.joined["u"] {
		t.Errorf("%v, joined still: %v", err, a.joined)
	}
}
