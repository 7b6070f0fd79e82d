package conformance

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	typedapps "k8s.io/client-go/kubernetes/typed/apps/v1"
)

// workloadPatience is how long a row waits for containers of a whole workload: other rows start theirs at the same time.
const workloadPatience = 3 * time.Minute

// settles is eventually for what containers must start for. An error says why not, and is nothing when it is so.
func (r *row) settles(what string, ask func() (bool, error)) {
	r.Helper()
	r.within(workloadPatience, what, ask)
}

// serving is the template of pods that serve, with a label.
func serving(label string) corev1.PodTemplateSpec {
	pod := application("")
	second := int64(1)
	pod.Spec.RestartPolicy, pod.Spec.TerminationGracePeriodSeconds = corev1.RestartPolicyAlways, &second
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{rowLabel: label}}, Spec: pod.Spec}
}

// daemons are a DaemonSet under test.
type daemons struct {
	*row
	ns, label string
	client    typedapps.DaemonSetInterface
}

// daemonSet makes one, in a namespace of its own.
func (r *row) daemonSet(change ...func(*appsv1.DaemonSet)) *daemons {
	r.Helper()
	d := &daemons{row: r, ns: r.namespace(), label: r.unique()}
	d.client = r.kube.AppsV1().DaemonSets(d.ns)
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "daemon", Labels: map[string]string{rowLabel: d.label}},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{rowLabel: d.label}}, Template: serving(d.label)},
	}
	for _, c := range change {
		c(ds)
	}
	_, err := d.client.Create(r.ctx, ds, metav1.CreateOptions{})
	r.must(err, "creating a DaemonSet")
	return d
}

func (d *daemons) get() *appsv1.DaemonSet {
	d.Helper()
	ds, err := d.client.Get(d.ctx, "daemon", metav1.GetOptions{})
	d.must(err, "getting the DaemonSet")
	return ds
}

func (d *daemons) patch(patch string) *appsv1.DaemonSet {
	d.Helper()
	ds, err := d.client.Patch(d.ctx, "daemon", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	d.must(err, "patching the DaemonSet")
	return ds
}

// free are the names of the nodes that any pod can go to.
func (d *daemons) free() (names []string) {
	d.Helper()
	nodes, err := d.kube.CoreV1().Nodes().List(d.ctx, metav1.ListOptions{})
	d.must(err, "listing nodes")
	for _, n := range nodes.Items {
		blocked := n.Spec.Unschedulable || n.DeletionTimestamp != nil
		for _, t := range n.Spec.Taints {
			blocked = blocked || t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		}
		if !blocked {
			names = append(names, n.Name)
		}
	}
	return names
}

// pods are those that are not going.
func (d *daemons) pods() (alive []corev1.Pod) {
	d.Helper()
	list, err := d.kube.CoreV1().Pods(d.ns).List(d.ctx, labelled(d.label))
	d.must(err, "listing pods")
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			alive = append(alive, p)
		}
	}
	return alive
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// everywhere waits until one ready pod is on each of these nodes (on all free ones, when there are none given), of that image, and
// the status agrees.
func (d *daemons) everywhere(image string, only ...string) {
	d.Helper()
	d.settles("one ready pod of "+image+" on each node", func() (bool, error) {
		want := only
		if only == nil {
			want = d.free()
		}
		on := map[string]int{}
		for _, p := range d.pods() {
			if p.Spec.Containers[0].Image != image || !ready(&p) {
				return false, fmt.Errorf("pod %s of image %s is %s", p.Name, p.Spec.Containers[0].Image, p.Status.Phase)
			}
			on[p.Spec.NodeName]++
		}
		for _, n := range want {
			if on[n] != 1 {
				return false, fmt.Errorf("%d pods on node %s, in all %v", on[n], n, on)
			}
		}
		n := int32(len(want))
		ds := d.get()
		s := ds.Status
		agrees := s.ObservedGeneration >= ds.Generation && s.DesiredNumberScheduled >= n && s.CurrentNumberScheduled == s.DesiredNumberScheduled &&
			s.UpdatedNumberScheduled == s.DesiredNumberScheduled && s.NumberAvailable == s.DesiredNumberScheduled
		return agrees, fmt.Errorf("status %s", asJSON(s))
	})
}

// revisions are the revisions' numbers, in order.
func (d *daemons) revisions() (all []appsv1.ControllerRevision) {
	d.Helper()
	list, err := d.kube.AppsV1().ControllerRevisions(d.ns).List(d.ctx, labelled(d.label))
	d.must(err, "listing ControllerRevisions")
	slices.SortFunc(list.Items, func(a, b appsv1.ControllerRevision) int { return int(a.Revision - b.Revision) })
	return list.Items
}

func (d *daemons) revisionCount(n int) []appsv1.ControllerRevision {
	d.Helper()
	d.settles(fmt.Sprintf("%d ControllerRevisions", n), func() (bool, error) {
		got := len(d.revisions())
		return got == n, fmt.Errorf("there are %d", got)
	})
	return d.revisions()
}

// APP-001: revisions are listed, patched, made, updated and deleted, also by collection, and a new template has the next number.
func revisionLife(r *row) {
	d := r.daemonSet()
	d.everywhere("testapp")
	client := r.kube.AppsV1().ControllerRevisions(d.ns)
	first := d.revisionCount(1)[0]
	owner := metav1.GetControllerOf(&first)
	if owner == nil || owner.Kind != "DaemonSet" || owner.Name != "daemon" {
		r.Fatalf("the revision's owner is %s", asJSON(owner))
	}
	got, err := client.Get(r.ctx, first.Name, metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("number of the first", got.Revision, int64(1))
	patched, err := client.Patch(r.ctx, first.Name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"yes"}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("label after the patch", patched.Labels["patched"], "yes")

	second, err := client.Create(r.ctx, &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Name: "daemon-second", Labels: patched.Labels, Annotations: patched.Annotations, OwnerReferences: patched.OwnerReferences},
		Data:       patched.Data, Revision: patched.Revision + 1,
	}, metav1.CreateOptions{})
	r.must(err, "creating a second")
	d.revisionCount(2)
	r.must(client.Delete(r.ctx, first.Name, metav1.DeleteOptions{}), "deleting the first")
	r.equal("name of the one left", d.revisionCount(1)[0].Name, second.Name)
	r.again("updating", func() error {
		rev, err := client.Get(r.ctx, second.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		rev.Labels["updated"] = "yes"
		_, err = client.Update(r.ctx, rev, metav1.UpdateOptions{})
		return err
	})
	d.patch(`{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":2}}}}`)
	d.revisionCount(2)
	d.everywhere("testapp")
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "updated=yes"}), "deleting the collection")
	r.equal("number of the one left", d.revisionCount(1)[0].Revision, int64(3))
}

// APP-007
func daemonCollection(r *row) {
	d := r.daemonSet()
	d.everywhere("testapp")
	list, err := r.kube.AppsV1().DaemonSets(metav1.NamespaceAll).List(r.ctx, labelled(d.label))
	r.must(err, "listing in all namespaces")
	r.equal("DaemonSets", len(list.Items), 1)
	r.must(d.client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(d.label)), "deleting the collection")
	r.eventually("the DaemonSet is gone", func() (bool, error) {
		list, err := d.client.List(r.ctx, labelled(d.label))
		return err == nil && len(list.Items) == 0, err
	})
	r.settles("its pods are gone", func() (bool, error) { return len(d.pods()) == 0, nil })
}

// APP-008: a pod that failed is replaced.
func daemonFailed(r *row) {
	d := r.daemonSet()
	d.everywhere("testapp")
	victim := d.pods()[0]
	r.again("failing a pod", func() error {
		p, err := r.kube.CoreV1().Pods(d.ns).Get(r.ctx, victim.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.Status.Phase = corev1.PodFailed
		_, err = r.kube.CoreV1().Pods(d.ns).UpdateStatus(r.ctx, p, metav1.UpdateOptions{})
		return err
	})
	d.isGone(victim)
	d.everywhere("testapp")
}

// isGone waits until that very pod is no more.
func (d *daemons) isGone(victim corev1.Pod) {
	d.Helper()
	d.settles("pod "+victim.Name+" is gone", func() (bool, error) {
		p, err := d.kube.CoreV1().Pods(d.ns).Get(d.ctx, victim.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err) || err == nil && p.UID != victim.UID, err
	})
}

// APP-009: what still runs of the template that is gone back to is not started anew.
func daemonRollback(r *row) {
	d := r.daemonSet()
	d.everywhere("testapp")
	if len(d.free()) < 2 {
		r.Skip("needs two nodes")
	}
	d.patch(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"testapp:nowhere"}]}}}}`)
	running := map[types.UID]bool{}
	r.settles("a pod of the broken image, and others of the good one", func() (bool, error) {
		clear(running)
		broken := 0
		for _, p := range d.pods() {
			if p.Spec.Containers[0].Image == "testapp" {
				running[p.UID] = true
			} else {
				broken++
			}
		}
		return broken > 0 && len(running) > 0 && len(running)+broken == len(d.free()), fmt.Errorf("%d broken, %d running", broken, len(running))
	})
	d.patch(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"testapp"}]}}}}`)
	d.everywhere("testapp")
	kept := 0
	for _, p := range d.pods() {
		if running[p.UID] {
			kept++
			r.equal("restarts of a pod that was left alone", p.Status.ContainerStatuses[0].RestartCount, int32(0))
		}
	}
	r.equal("pods left alone", kept, len(running))
}

// APP-010: a DaemonSet for nodes with a label follows the label.
func daemonSelector(r *row) {
	const color = "conformance.example.com/color"
	mark := r.unique()
	d := r.daemonSet(func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector = map[string]string{color: mark + "-blue"}
	})
	node := d.free()[0]
	paint := func(value string) {
		r.Helper()
		text := "null"
		if value != "" {
			text = fmt.Sprintf("%q", mark+"-"+value)
		}
		_, err := r.kube.CoreV1().Nodes().Patch(r.ctx, node, types.StrategicMergePatchType, []byte(fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, color, text)), metav1.PatchOptions{})
		r.must(err, "labelling node "+node)
	}
	r.settles("it is seen that no node fits", func() (bool, error) {
		ds := d.get()
		return ds.Status.ObservedGeneration >= ds.Generation && ds.Status.DesiredNumberScheduled == 0, nil
	})
	r.equal("pods while no node fits", len(d.pods()), 0)
	defer paint("")
	paint("blue")
	d.everywhere("testapp", node)
	r.equal("pods for the one node", len(d.pods()), 1)
	paint("green")
	r.settles("the pod is gone", func() (bool, error) { return len(d.pods()) == 0, nil })
	d.patch(fmt.Sprintf(`{"spec":{"updateStrategy":{"type":"RollingUpdate"},"template":{"spec":{"nodeSelector":{%q:"%s-green"}}}}}`, color, mark))
	d.everywhere("testapp", node)
	r.equal("desired", d.get().Status.DesiredNumberScheduled, int32(1))
}

// APP-011: a pod on every node, and again after one was deleted.
func daemonEverywhere(r *row) {
	d := r.daemonSet()
	d.everywhere("testapp")
	victim := d.pods()[0]
	r.must(r.kube.CoreV1().Pods(d.ns).Delete(r.ctx, victim.Name, metav1.DeleteOptions{}), "deleting a pod")
	d.isGone(victim)
	d.everywhere("testapp")
}

// APP-012: pods are replaced, one at a time, and bear the hash of their revision.
func daemonRollingUpdate(r *row) {
	d := r.daemonSet()
	d.everywhere("testapp")
	hashed := func(number int64) {
		r.Helper()
		all := d.revisions()
		last := all[len(all)-1]
		r.equal("number of the last revision", last.Revision, number)
		for _, p := range d.pods() {
			r.equal("hash of pod "+p.Name, p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], last.Labels[appsv1.DefaultDaemonSetUniqueLabelKey])
		}
	}
	hashed(1)
	nodes := len(d.free())
	d.patch(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"testapp:2"}]}}}}`)
	r.settles("all are of the new image, and never two missing", func() (bool, error) {
		updated, serves := 0, 0
		list, err := r.kube.CoreV1().Pods(d.ns).List(r.ctx, labelled(d.label))
		r.must(err, "listing pods")
		for _, p := range list.Items {
			if ready(&p) {
				serves++
			}
			if p.Spec.Containers[0].Image == "testapp:2" && ready(&p) {
				updated++
			}
		}
		if serves < nodes-1 && len(d.free()) >= nodes {
			r.Fatalf("only %d of %d pods are ready", serves, nodes)
		}
		return updated >= nodes, fmt.Errorf("%d are", updated)
	})
	d.everywhere("testapp:2")
	hashed(2)
}

// APP-013: the status is got, updated and patched by its subresource; conditions that others wrote stay.
func daemonStatus(r *row) {
	d := r.daemonSet()
	d.everywhere("testapp")
	w := r.follow(d.client.Watch(r.ctx, labelled(d.label)))
	w.next(watch.Added, "daemon", named("daemon"))
	got, err := r.dyn.Resource(appsv1.SchemeGroupVersion.WithResource("daemonsets")).Namespace(d.ns).Get(r.ctx, "daemon", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("kind of what the subresource gives", got.GetKind(), "DaemonSet")
	r.again("updating the status", func() error {
		ds := d.get()
		ds.Status.Conditions = append(ds.Status.Conditions, appsv1.DaemonSetCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E", Message: "Set from e2e test"})
		_, err := d.client.UpdateStatus(r.ctx, ds, metav1.UpdateOptions{})
		return err
	})
	has := func(kind appsv1.DaemonSetConditionType) func(metav1.Object) bool {
		return func(o metav1.Object) bool {
			return slices.ContainsFunc(o.(*appsv1.DaemonSet).Status.Conditions, func(c appsv1.DaemonSetCondition) bool {
				return c.Type == kind && c.Status == corev1.ConditionTrue && c.Reason == "E2E" && c.Message == "Set from e2e test"
			})
		}
	}
	w.next(watch.Modified, "daemon with the condition", has("StatusUpdate"))
	_, err = d.client.Patch(r.ctx, "daemon", types.MergePatchType,
		[]byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True","reason":"E2E","message":"Set from e2e test"}]}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	w.next(watch.Modified, "daemon with the other condition", has("StatusPatched"))
}
