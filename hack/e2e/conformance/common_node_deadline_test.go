package conformance

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/util/retry"
)

// CN-059: a running pod is given a deadline, and ends as Failed when it is over.
func podDeadline(r *row) {
	ns, label := r.namespace(), rand.String(8)
	p := application("deadline")
	p.Labels = map[string]string{"name": "foo", "time": label}
	r.podIs(ns, p, "runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	list, err := r.kube.CoreV1().Pods(ns).List(r.ctx, metav1.ListOptions{LabelSelector: "time=" + label})
	r.must(err, "listing by label")
	r.equal("pods with the label", len(list.Items), 1)

	r.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		p, err := r.kube.CoreV1().Pods(ns).Get(r.ctx, "deadline", metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.Spec.ActiveDeadlineSeconds = new(int64(5))
		_, err = r.kube.CoreV1().Pods(ns).Update(r.ctx, p, metav1.UpdateOptions{})
		return err
	}), "giving the pod a deadline")
	got := r.becomes(ns, "deadline", "has failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	r.equal("reason of its status", got.Status.Reason, "DeadlineExceeded")
	if lived := time.Since(got.Status.StartTime.Time); lived < 5*time.Second {
		r.Errorf("the pod was ended after %s", lived)
	}
}
