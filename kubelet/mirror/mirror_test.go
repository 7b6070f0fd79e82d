package mirror

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/pkg/logging"
)

// api makes pods, or not.
type api struct {
	typedcorev1.PodInterface
	refuse map[string]error
	asked  []string
}

func (a *api) Pods(string) typedcorev1.PodInterface { return a }

func (a *api) Create(_ context.Context, p *corev1.Pod, _ metav1.CreateOptions) (*corev1.Pod, error) {
	a.asked = append(a.asked, p.Name)
	return p, a.refuse[p.Name]
}

// One static pod that the API wants no mirror of does not keep the others from theirs; when it does not answer, it is not asked again at once.
func TestTurn(t *testing.T) {
	for _, tc := range []struct {
		name  string
		err   error
		asked string
	}{
		{"all well", nil, "a b"},
		{"refused", apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "ns"), "a b"},
		{"away", errors.New("connection refused"), "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &api{refuse: map[string]error{"a": tc.err}}
			m := New(Parts{Pods: a, Informer: cache.NewSharedIndexInformer(nil, &corev1.Pod{}, 0, cache.Indexers{}),
				Static: func() ([]*corev1.Pod, bool) { return nil, true },
				Self:   func() *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node"}} }}, logging.ForTest(t))
			for _, name := range []string{"b", "a"} {
				m.live[types.UID(name)] = local{pod: staticPod(name, name)}
			}
			err := m.turn(t.Context(), true)
			if got := strings.Join(a.asked, " "); got != tc.asked || (err != nil) != (tc.err != nil) {
				t.Errorf("asked for %q, %v; want %q", got, err, tc.asked)
			}
		})
	}
}
