package conformance

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// APP-006: CronJobs that do not start soon.
func cronJobs(r *row) {
	r.operate(operations{
		gvr: batchv1.SchemeGroupVersion.WithResource("cronjobs"), kind: "CronJob", namespaced: true,
		manifest: `
spec:
  schedule: "0 0 1 1 *"
  suspend: true
  concurrencyPolicy: Allow
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: c, image: testapp, command: [sleep, "300"]}]`,
		edit:   `{spec: {concurrencyPolicy: Forbid, successfulJobsHistoryLimit: 5}}`,
		status: `{status: {lastScheduleTime: "2026-01-01T00:00:00Z"}}`,
		update: `{status: {lastScheduleTime: "2026-01-02T00:00:00Z", lastSuccessfulTime: "2026-01-02T00:00:07Z"}}`,
	})
}

// ARC-001: two nodes at least can have any pod.
func twoUntaintedNodes(r *row) {
	nodes, err := r.kube.CoreV1().Nodes().List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing nodes")
	free := 0
	for _, n := range nodes.Items {
		blocked := n.Spec.Unschedulable
		for _, t := range n.Spec.Taints {
			blocked = blocked || t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		}
		ready := false
		for _, c := range n.Status.Conditions {
			ready = ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}
		if ready && !blocked {
			free++
		}
	}
	if free < 2 {
		r.Fatalf("%d of %d nodes are ready and without a taint, want two at least", free, len(nodes.Items))
	}
}
