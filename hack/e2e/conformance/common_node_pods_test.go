package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Rows about pods as objects that a node runs: made, changed, read and removed.

// doer is a pod of the test application that takes these steps.
func doer(name string, steps ...string) *corev1.Pod {
	return application(name, append([]string{"do"}, steps...)...)
}

// podIs makes a pod and waits until it is so.
func (r *row) podIs(ns string, pod *corev1.Pod, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	r.Helper()
	_, err := r.kube.CoreV1().Pods(ns).Create(r.ctx, pod, metav1.CreateOptions{})
	r.must(err, "creating pod "+pod.Name)
	return r.becomes(ns, pod.Name, what, ok)
}

// becomes waits until a pod is so.
func (r *row) becomes(ns, name, what string, ok func(*corev1.Pod) bool) (got *corev1.Pod) {
	r.Helper()
	r.settles("pod "+name+" "+what, func() (bool, error) {
		var err error
		if got, err = r.kube.CoreV1().Pods(ns).Get(r.ctx, name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		return ok(got), fmt.Errorf("its status is %s", asJSON(got.Status))
	})
	return got
}

// stays asks for so long, and ends the test when a pod is not so any more.
func (r *row) stays(ns, name, what string, long time.Duration, ok func(*corev1.Pod) bool) {
	r.Helper()
	for deadline := time.Now().Add(long); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		got, err := r.kube.CoreV1().Pods(ns).Get(r.ctx, name, metav1.GetOptions{})
		r.must(err, "getting pod "+name)
		if !ok(got) {
			r.Fatalf("pod %s is not %s: %s", name, what, asJSON(got.Status))
		}
	}
}

// podGone waits until a pod is not there.
func (r *row) podGone(ns, name string) {
	r.Helper()
	r.settles("pod "+name+" is gone", func() (bool, error) {
		_, err := r.kube.CoreV1().Pods(ns).Get(r.ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
}

func inPhase(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Status.Phase == phase }
}

// CN-060: a pod is made, seen by a watch and in a list, and deleted with its grace; the watch sees its end.
func podLife(r *row) {
	ns, label := r.namespace(), r.unique()
	pods := r.kube.CoreV1().Pods(ns)
	none, err := pods.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("pods before", len(none.Items), 0)
	from := labelled(label)
	from.ResourceVersion = none.ResourceVersion
	w := r.follow(pods.Watch(r.ctx, from))
	pod := serving(label)
	made, err := pods.Create(r.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "submitted", Labels: pod.Labels}, Spec: pod.Spec}, metav1.CreateOptions{})
	r.must(err, "creating")
	w.next(watch.Added, "the pod", named("submitted"))
	list, err := pods.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("pods", len(list.Items), 1)
	r.becomes(ns, "submitted", "is ready", ready)
	grace := int64(30)
	r.must(pods.Delete(r.ctx, "submitted", metav1.DeleteOptions{GracePeriodSeconds: &grace}), "deleting")
	ending := false
	for {
		kind, o := w.take()
		p := o.(*corev1.Pod)
		if p.DeletionTimestamp != nil && kind == watch.Modified {
			ending = true
			r.equal("grace of the deletion", *p.DeletionGracePeriodSeconds <= grace, true)
		}
		if kind == watch.Deleted {
			r.equal("uid of the deleted pod", p.UID, made.UID)
			r.equal("the deletion has a time", p.DeletionTimestamp != nil, true)
			break
		}
		r.equal("event before the deletion", kind, watch.Modified)
	}
	r.equal("the watch saw the pod ending", ending, true)
	list, err = pods.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("pods left", len(list.Items), 0)
}

// CN-061: the labels of a running pod are changed.
func podUpdated(r *row) {
	ns, label := r.namespace(), r.unique()
	pods := r.kube.CoreV1().Pods(ns)
	pod := application("updated")
	pod.Labels = map[string]string{rowLabel: label}
	r.reaches(ns, pod, corev1.PodRunning)
	r.again("updating", func() error {
		p, err := pods.Get(r.ctx, "updated", metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.Labels["time"] = "later"
		_, err = pods.Update(r.ctx, p, metav1.UpdateOptions{})
		return err
	})
	list, err := pods.List(r.ctx, metav1.ListOptions{LabelSelector: rowLabel + "=" + label + ",time=later"})
	r.must(err, "listing")
	r.equal("pods of the new label", len(list.Items), 1)
	r.equal("its phase", list.Items[0].Status.Phase, corev1.PodRunning)
}

// CN-062: a pod finds the variables of a service that was there before it.
func podServiceVariables(r *row) {
	ns := r.namespace()
	svc := r.backed(ns, "fooservice", map[string]string{"name": "nobody"}, 8765)
	want := []string{
		"FOOSERVICE_SERVICE_HOST=" + svc.Spec.ClusterIP, "FOOSERVICE_SERVICE_PORT=8765", "FOOSERVICE_PORT=tcp://" + svc.Spec.ClusterIP + ":8765",
		"FOOSERVICE_PORT_8765_TCP_PORT=8765", "FOOSERVICE_PORT_8765_TCP_PROTO=tcp", "FOOSERVICE_PORT_8765_TCP=tcp://" + svc.Spec.ClusterIP + ":8765",
		"FOOSERVICE_PORT_8765_TCP_ADDR=" + svc.Spec.ClusterIP,
	}
	var got []string
	r.settles("a pod knows the service", func() (bool, error) { // the kubelet hears of services on its own
		name := r.unique()
		r.reaches(ns, doer(name, "env=FOOSERVICE"), corev1.PodSucceeded)
		got = strings.Fields(r.logs(ns, name))
		return len(got) > 0, nil
	})
	slices.Sort(want)
	slices.Sort(got)
	for _, w := range want {
		if !slices.Contains(got, w) {
			r.Errorf("%s is not among %q", w, got)
		}
	}
}

// CN-063
func podCollection(r *row) {
	ns, label := r.namespace(), r.unique()
	pods := r.kube.CoreV1().Pods(ns)
	for i := range 3 {
		pod := application(fmt.Sprintf("one-of-%d", i))
		pod.Labels = map[string]string{rowLabel: label}
		_, err := pods.Create(r.ctx, pod, metav1.CreateOptions{})
		r.must(err, "creating")
	}
	list, err := pods.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("pods", len(list.Items), 3)
	r.must(pods.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	r.settles("all are gone", func() (bool, error) {
		list, err := pods.List(r.ctx, labelled(label))
		return err == nil && len(list.Items) == 0, err
	})
}

// CN-064: a running pod has the address of its node.
func podHostIP(r *row) {
	ns := r.namespace()
	got := r.podIs(ns, application("hosted"), "has its node's address", func(p *corev1.Pod) bool { return p.Status.HostIP != "" && p.Spec.NodeName != "" })
	node, err := r.kube.CoreV1().Nodes().Get(r.ctx, got.Spec.NodeName, metav1.GetOptions{})
	r.must(err, "getting the node")
	var addresses []string
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			addresses = append(addresses, a.Address)
		}
	}
	r.equal("hostIP is of the node", slices.Contains(addresses, got.Status.HostIP), true)
	r.equal("hostIPs", len(got.Status.HostIPs) > 0 && got.Status.HostIPs[0].IP == got.Status.HostIP, true)
}

// CN-065: reason and message of a pod's status are patched by another hand than the kubelet's.
func podStatusPatch(r *row) {
	ns, label := r.namespace(), r.unique()
	pods := r.kube.CoreV1().Pods(ns)
	pod := application("patched")
	pod.Labels = map[string]string{rowLabel: label}
	r.reaches(ns, pod, corev1.PodRunning)
	everywhere, err := r.kube.CoreV1().Pods(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("pods", len(everywhere.Items), 1)
	got, err := pods.Patch(r.ctx, "patched", types.MergePatchType, []byte(`{"status":{"reason":"E2E","message":"Set from an e2e test"}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	r.equal("reason and message", []string{got.Status.Reason, got.Status.Message}, []string{"E2E", "Set from an e2e test"})
}

// CN-066: a pod and its status through their lives: made, patched, its status replaced, deleted by collection.
func podAndStatusLife(r *row) {
	ns, label := r.namespace(), r.unique()
	pods := r.kube.CoreV1().Pods(ns)
	w := r.follow(pods.Watch(r.ctx, labelled(label)))
	pod := serving(label)
	made, err := pods.Create(r.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: pod.Labels}, Spec: pod.Spec}, metav1.CreateOptions{})
	r.must(err, "creating")
	w.next(watch.Added, "the pod", named("one"))
	w.next(watch.Modified, "a ready pod", func(o metav1.Object) bool { return ready(o.(*corev1.Pod)) })
	_, err = pods.Patch(r.ctx, "one", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"patched":"yes"}},"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"testapp:2"}]}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	w.next(watch.Modified, "the patched pod", func(o metav1.Object) bool {
		return o.GetLabels()["patched"] == "yes" && o.(*corev1.Pod).Spec.Containers[0].Image == "testapp:2"
	})
	r.becomes(ns, "one", "runs the new image", func(p *corev1.Pod) bool {
		return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 && strings.HasSuffix(p.Status.ContainerStatuses[0].Image, "testapp:2")
	})
	r.again("replacing the status", func() error {
		p, err := pods.Get(r.ctx, "one", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for i := range p.Status.Conditions {
			if p.Status.Conditions[i].Type == corev1.PodReady {
				p.Status.Conditions[i].Status, p.Status.Conditions[i].Reason = corev1.ConditionFalse, "E2E"
			}
		}
		got, err := pods.UpdateStatus(r.ctx, p, metav1.UpdateOptions{})
		if err == nil {
			r.equal("ready as replaced", ready(got), false)
		}
		return err
	})
	r.becomes(ns, "one", "is ready again, by its kubelet", ready)
	r.must(pods.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	w.next(watch.Deleted, "the pod", func(o metav1.Object) bool { return o.GetUID() == made.UID })
}

// NODE-002: whatever generation a new pod names, it begins at 1; a deletion with grace counts as a change.
func podGenerationByUser(r *row) {
	ns := r.namespace()
	pods := r.kube.CoreV1().Pods(ns)
	pod := application("numbered")
	pod.Generation = 100
	pod.Finalizers = []string{"conformance.example.com/wait"}
	thirty := int64(30)
	pod.Spec.TerminationGracePeriodSeconds = &thirty
	made, err := pods.Create(r.ctx, pod, metav1.CreateOptions{})
	r.must(err, "creating")
	letGo := func(ctx context.Context) error {
		_, err := pods.Patch(ctx, "numbered", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		return err
	}
	r.tidy("letting the pod go", letGo)
	r.equal("generation", made.Generation, int64(1))
	r.becomes(ns, "numbered", "runs", inPhase(corev1.PodRunning))
	r.must(pods.Delete(r.ctx, "numbered", metav1.DeleteOptions{}), "deleting")
	got := r.becomes(ns, "numbered", "is being deleted", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	r.equal("generation of a pod that is being deleted", got.Generation, int64(2))
	r.must(letGo(r.ctx), "letting the pod go")
	r.podGone(ns, "numbered")
}

// NODE-004: the generation begins at 1 and grows with each change of the spec, and with no other; what the kubelet has seen follows.
func podGeneration(r *row) {
	ns := r.namespace()
	pods := r.kube.CoreV1().Pods(ns)
	pod := application("numbered")
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	deadline := int64(5000)
	pod.Spec.ActiveDeadlineSeconds = &deadline
	made := r.podIs(ns, pod, "runs", inPhase(corev1.PodRunning))
	r.equal("generation", made.Generation, int64(1))
	want := int64(1)
	for _, step := range []struct {
		doing  string
		grows  bool
		change func(*corev1.Pod)
		sub    string
	}{
		{doing: "a new label", change: func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }},
		{doing: "a toleration", grows: true, change: func(p *corev1.Pod) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
		}},
		{doing: "another image", grows: true, change: func(p *corev1.Pod) { p.Spec.Containers[0].Image = "testapp:2" }},
		{doing: "a shorter deadline", grows: true, change: func(p *corev1.Pod) { less := int64(4000); p.Spec.ActiveDeadlineSeconds = &less }},
		{doing: "the same again", change: func(*corev1.Pod) {}},
		{doing: "an ephemeral container", grows: true, sub: "ephemeralcontainers", change: func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debugger", Image: "testapp", Args: []string{"pause"}}})
		}},
	} {
		r.again(step.doing, func() error {
			p, err := pods.Get(r.ctx, "numbered", metav1.GetOptions{})
			if err != nil {
				return err
			}
			step.change(p)
			if step.sub != "" {
				p, err = pods.UpdateEphemeralContainers(r.ctx, p.Name, p, metav1.UpdateOptions{})
			} else {
				p, err = pods.Update(r.ctx, p, metav1.UpdateOptions{})
			}
			if err != nil {
				return err
			}
			if step.grows {
				want++
			}
			r.equal("generation after "+step.doing, p.Generation, want)
			return nil
		})
		r.becomes(ns, "numbered", "is seen after "+step.doing, func(p *corev1.Pod) bool { return p.Status.ObservedGeneration == want })
	}
}

// NODE-003: five hundred changes of a spec, one after the other, are all counted, and the kubelet ends at the last.
func podManyUpdates(r *row) {
	ns := r.namespace()
	pods := r.kube.CoreV1().Pods(ns)
	pod := application("numbered")
	most := int64(5000)
	pod.Spec.ActiveDeadlineSeconds = &most
	r.podIs(ns, pod, "runs", inPhase(corev1.PodRunning))
	for i := range 500 {
		_, err := pods.Patch(r.ctx, "numbered", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"activeDeadlineSeconds":%d}}`, 4999-i), metav1.PatchOptions{})
		r.must(err, "patching")
	}
	got := r.becomes(ns, "numbered", "is seen as it is last", func(p *corev1.Pod) bool { return p.Generation == 501 && p.Status.ObservedGeneration == 501 })
	for _, c := range got.Status.Conditions {
		if c.Type != corev1.PodScheduled {
			r.equal("generation of condition "+string(c.Type), c.ObservedGeneration, int64(501))
		}
	}
	r.equal("phase", got.Status.Phase, corev1.PodRunning)
}
