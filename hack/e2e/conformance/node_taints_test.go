package conformance

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// alone says that nothing else may run beside a row: it drives pods off a node.
func alone(id string) bool { return id == "NODE-009" || id == "NODE-010" }

const evictTaint = "conformance.example.com/evict"

// tolerant is a pod that bears the taint for so long.
func tolerant(name string, long time.Duration) *corev1.Pod {
	pod := application(name, "pause")
	pod.Spec.TerminationGracePeriodSeconds = new(int64(1))
	pod.Spec.Tolerations = []corev1.Toleration{{Key: evictTaint, Value: "yes", Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(long / time.Second))}}
	return pod
}

// taint puts the taint on a node or takes it off; at the row's end it is off.
func (r *row) taint(node string, on bool) {
	r.Helper()
	set := func(ctx context.Context, on bool) error {
		return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			n, err := r.kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
			if err != nil {
				return err
			}
			n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == evictTaint })
			if on {
				n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: evictTaint, Value: "yes", Effect: corev1.TaintEffectNoExecute})
			}
			_, err = r.kube.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
			return err
		})
	}
	if on {
		r.tidy("taking the taint off node "+node, func(ctx context.Context) error { return set(ctx, false) })
	}
	r.must(set(r.ctx, on), "changing the taints of node "+node)
}

// leaves waits until a pod is being deleted or is gone, and says when that was seen.
func (r *row) leaves(ns, name string) time.Time {
	r.Helper()
	r.settles("pod "+name+" is evicted", func() (bool, error) {
		p, err := r.kube.CoreV1().Pods(ns).Get(r.ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err) || err == nil && p.DeletionTimestamp != nil, err
	})
	return time.Now()
}

func stands(p *corev1.Pod) bool { return p.DeletionTimestamp == nil }

// NODE-009: pods that bear a NoExecute taint for some time leave when theirs is over, each at its own.
func evictionTimes(r *row) {
	const short, long = 3 * time.Second, 9 * time.Second
	ns := r.namespace()
	node := r.podIs(ns, tolerant("short", short), "runs", inPhase(corev1.PodRunning)).Spec.NodeName
	other := tolerant("long", long)
	other.Spec.NodeName = node
	r.podIs(ns, other, "runs", inPhase(corev1.PodRunning))
	began := time.Now()
	r.taint(node, true)
	if took := r.leaves(ns, "short").Sub(began); took < short-time.Second {
		r.Errorf("the pod that bears the taint for %v was evicted after %v", short, took)
	}
	r.stays(ns, "long", "left alone", time.Until(began.Add(long-3*time.Second)), stands)
	if took := r.leaves(ns, "long").Sub(began); took < long-time.Second {
		r.Errorf("the pod that bears the taint for %v was evicted after %v", long, took)
	}
}

// NODE-010: a pod is not evicted if the taint goes before its time is over.
func evictionCancelled(r *row) {
	const bears = 6 * time.Second
	ns := r.namespace()
	node := r.podIs(ns, tolerant("bears", bears), "runs", inPhase(corev1.PodRunning)).Spec.NodeName
	r.taint(node, true)
	r.stays(ns, "bears", "left alone", bears/3, stands)
	r.taint(node, false)
	r.stays(ns, "bears", "left alone", bears+2*time.Second, stands)
}
