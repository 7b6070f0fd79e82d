package pods

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// Whatever stands in a pod must not end the kubelet. What a pod makes panic ends that one turn or action, is logged with its stack, told to the user
// as the pod's event and status, and tried again later; all other pods go on. A pod that cannot be worked on and is being deleted is ended by what
// the runtime holds of it alone.

// panicked is a panic that has become an error.
type panicked struct {
	what  any
	stack []byte
}

func (p panicked) Error() string { return fmt.Sprintf("internal error: %v", p.what) }

// calmly does f; its panic is an error of type panicked.
func calmly(f func() error) (err error) {
	defer func() {
		if what := recover(); what != nil {
			err = panicked{what, debug.Stack()}
		}
	}()
	return f()
}

// rest is how long a pod is left alone that made a turn panic, unless something happens to it.
const rest = 10 * time.Second

// alarmed logs err, and tells the user of it, if it is a panic.
func (w *worker) alarmed(s *state, err error) bool {
	var p panicked
	if !errors.As(err, &p) {
		return false
	}
	w.log.Error("working on a pod", zap.Error(p), zap.ByteString("stack", p.stack))
	s.odd = true
	w.tell(s.pod, "", corev1.EventTypeWarning, "FailedSync", "error syncing pod: %v", p)
	return true
}

// confess writes into the pod's status that this kubelet cannot work on it.
func (w *worker) confess(s *state, err error) {
	st := *s.raw.Status.DeepCopy()
	if st.Phase == "" {
		st.Phase = corev1.PodPending
	}
	st.Reason, st.Message = "InternalError", err.Error()
	s.last = nil // whatever is said next is news
	w.parts.Status.Set(s.raw, st)
}

// bare is as much of a pod as is needed to end it.
func bare(p *corev1.Pod) *corev1.Pod {
	b := &corev1.Pod{ObjectMeta: *p.ObjectMeta.DeepCopy(), Status: *p.Status.DeepCopy()}
	b.Spec.HostNetwork, b.Spec.TerminationGracePeriodSeconds, b.Spec.RestartPolicy = p.Spec.HostNetwork, p.Spec.TerminationGracePeriodSeconds, p.Spec.RestartPolicy
	return b
}

// calmly does f, which is about that pod. It says whether f came to its end.
func (ws *Workers) calmly(p *corev1.Pod, f func()) bool {
	err := calmly(func() error { f(); return nil })
	var is panicked
	if !errors.As(err, &is) {
		return true
	}
	ws.log.Error("taking in a pod", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.Error(is), zap.ByteString("stack", is.stack))
	return false
}
