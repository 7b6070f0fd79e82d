package loop

import (
	"context"
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// writes is a strict fake: it keeps which way each write went.
type writes struct {
	calls []string
	err   error
}

func (w *writes) Update(_ context.Context, d *appsv1.Deployment, _ metav1.UpdateOptions) (*appsv1.Deployment, error) {
	w.calls = append(w.calls, "spec")
	return d, w.err
}

func (w *writes) UpdateStatus(_ context.Context, d *appsv1.Deployment, _ metav1.UpdateOptions) (*appsv1.Deployment, error) {
	w.calls = append(w.calls, "status")
	return d, w.err
}

func TestCommit(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		change func(*appsv1.Deployment)
		err    error
		calls  string
		fails  string
	}{
		"no difference, no write":   {change: func(*appsv1.Deployment) {}},
		"empty and missing are one": {change: func(d *appsv1.Deployment) { d.Annotations = map[string]string{} }},
		"spec":                      {change: func(d *appsv1.Deployment) { d.Spec.Paused = true }, calls: "spec"},
		"metadata":                  {change: func(d *appsv1.Deployment) { d.Labels = map[string]string{"a": "b"} }, calls: "spec"},
		"status":                    {change: func(d *appsv1.Deployment) { d.Status.Replicas = 3 }, calls: "status"},
		"both are refused":          {change: func(d *appsv1.Deployment) { d.Status.Replicas, d.Spec.Paused = 3, true }, fails: "spec and status"},
		"an error is passed on":     {change: func(d *appsv1.Deployment) { d.Status.Replicas = 3 }, err: broken, calls: "status", fails: "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			have := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}}
			want := have.DeepCopy()
			tc.change(want)
			w := &writes{err: tc.err}
			_, err := Commit(t.Context(), w, have, want)
			if got := strings.Join(w.calls, " "); got != tc.calls {
				t.Errorf("wrote %q, want %q", got, tc.calls)
			}
			if (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("error %v, want one with %q", err, tc.fails)
			}
		})
	}
}
