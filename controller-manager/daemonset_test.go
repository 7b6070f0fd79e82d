package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/controller-manager/revisions"
	"pilothouse.dev/pkg/pod"
)

func TestDaemonSets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sub("placement", testDaemonPlacement)
	w.sub("daemon-rollout", testDaemonRollout)
	w.sub("daemon-surge", testDaemonSurge)
	w.sub("daemon-failed", testDaemonFailed)
	w.sub("daemon-orphans", testDaemonOrphans)
	w.sub("daemon-collision", testDaemonCollision)
	w.sub("daemon-quiet", testDaemonQuiet)
}

// daemons are a DaemonSet on nodes of its own, which bear its namespace as a label.
type daemons struct {
	*world
	ns    string
	nodes []string
}

func newDaemons(w *world, ns string, nodes ...string) *daemons {
	w.Helper()
	d := &daemons{world: w, ns: ns}
	for _, n := range nodes {
		d.addNode(n)
	}
	return d
}

func (d *daemons) addNode(n string) {
	d.Helper()
	name := d.ns + "-" + n
	d.player.add(d.world, name)
	d.patchNode(n, fmt.Sprintf(`{"metadata":{"labels":{"daemons":%q}}}`, d.ns))
	d.nodes = append(d.nodes, name)
}

func (d *daemons) patchNode(n, patch string) {
	d.Helper()
	must(d.kube.CoreV1().Nodes().Patch(d.Context(), d.ns+"-"+n, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))(d.world)
}

func (d *daemons) wish(change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	labels := map[string]string{"app": "log"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "log"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				NodeSelector: map[string]string{"daemons": d.ns}, Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
		},
	}
	for _, c := range change {
		c(ds)
	}
	return ds
}

func (d *daemons) create(change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	d.Helper()
	return must(d.kube.AppsV1().DaemonSets(d.ns).Create(d.Context(), d.wish(change...), metav1.CreateOptions{}))(d.world)
}

func (d *daemons) patch(patch string) {
	d.Helper()
	must(d.kube.AppsV1().DaemonSets(d.ns).Patch(d.Context(), "log", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))(d.world)
}

// pods are those that live, by node; two on one node fail the test unless twice.
func (d *daemons) pods(twice bool) map[string]*corev1.Pod {
	d.Helper()
	list := must(d.kube.CoreV1().Pods(d.ns).List(d.Context(), metav1.ListOptions{}))(d.world)
	all := map[string]*corev1.Pod{}
	for i := range list.Items {
		p := &list.Items[i]
		if !pod.Active(p) {
			continue
		}
		if all[p.Spec.NodeName] != nil && p.Spec.NodeName != "" && !twice {
			d.Fatalf("two pods on node %s: %s and %s", p.Spec.NodeName, p.Name, all[p.Spec.NodeName].Name)
		}
		all[p.Spec.NodeName] = p
	}
	return all
}

// on waits until pods of an image live on just these nodes, and the status says so.
func (d *daemons) on(image string, nodes ...string) {
	d.Helper()
	n := int32(len(nodes))
	d.until(fmt.Sprintf("pods of %s on %v", image, nodes), func() error {
		ds := must(d.kube.AppsV1().DaemonSets(d.ns).Get(d.Context(), "log", metav1.GetOptions{}))(d.world)
		s := ds.Status
		if s.ObservedGeneration < ds.Generation || s.DesiredNumberScheduled != n || s.CurrentNumberScheduled != n || s.NumberAvailable != n ||
			s.UpdatedNumberScheduled != n || s.NumberReady != n || s.NumberMisscheduled != 0 || s.NumberUnavailable != 0 {
			return fmt.Errorf("generation %d, status %+v", ds.Generation, s)
		}
		pods := d.pods(false)
		for _, name := range nodes {
			if p := pods[name]; p == nil || p.Spec.Containers[0].Image != image {
				return fmt.Errorf("on %s there is %v", name, p)
			}
		}
		if len(pods) != len(nodes) {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
}

// event waits until an event of the DaemonSet's has the reason and the text.
func (d *daemons) event(reason, text string) {
	d.Helper()
	d.until("event "+reason, func() error {
		list := must(d.kube.CoreV1().Events(d.ns).List(d.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=DaemonSet,reason=" + reason}))(d.world)
		for _, e := range list.Items {
			if strings.Contains(e.Message, text) {
				return nil
			}
		}
		return fmt.Errorf("%d events of that reason", len(list.Items))
	})
}

// genuineKubectl runs kubectl in a namespace as the administrator, and returns what it said.
func genuineKubectl(w *world, ns string, args ...string) string {
	w.Helper()
	bin := filepath.Join("..", "bin", "kubectl")
	if _, err := os.Stat(bin); err != nil {
		w.Fatalf("no kubectl: run make tools: %v", err)
	}
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append([]string{"--kubeconfig=" + w.cluster.Kubeconfig("admin", "system:masters"), "--namespace=" + ns}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+w.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		w.Fatalf("kubectl %v: %v\n%s", args, err, &out)
	}
	return out.String()
}

func saying(w *world, what, text string) {
	w.Helper()
	if !strings.Contains(what, text) {
		w.Fatalf("kubectl said %q, want %q in it", what, text)
	}
}

func testDaemonPlacement(w *world, ns string) {
	d := newDaemons(w, ns, "a", "b")
	d.create()
	d.on("v1", d.nodes...)
	d.event("SuccessfulCreate", "Created pod: log-")
	first := d.pods(false)[d.nodes[0]]
	if first.Labels["pod-template-generation"] != "1" || first.Labels["controller-revision-hash"] == "" {
		w.Errorf("labels %v", first.Labels)
	}

	d.addNode("c")
	d.on("v1", d.nodes...)

	// who closes a node leaves its pod alone; who empties it does not
	d.patchNode("c", `{"spec":{"taints":[{"key":"example.com/closed","effect":"NoSchedule"}]}}`)
	w.until("a node that is closed", func() error {
		ds := must(w.kube.AppsV1().DaemonSets(ns).Get(w.Context(), "log", metav1.GetOptions{}))(w)
		if s := ds.Status; s.DesiredNumberScheduled != 2 || s.NumberMisscheduled != 1 || len(d.pods(false)) != 3 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	d.patchNode("c", `{"spec":{"taints":[{"key":"example.com/out","effect":"NoExecute"}]}}`)
	d.on("v1", d.nodes[:2]...)
	d.event("SuccessfulDelete", "Deleted pod: log-")
	d.patchNode("c", `{"spec":{"taints":null}}`)
	d.on("v1", d.nodes...)
	d.patchNode("c", `{"metadata":{"labels":{"daemons":null}}}`)
	d.on("v1", d.nodes[:2]...)

	// a pod that somebody deletes comes again, and one that is made beside ours and looks like ours is adopted and ended
	if err := w.kube.CoreV1().Pods(ns).Delete(w.Context(), first.Name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("another pod", func() error {
		if p := d.pods(false)[d.nodes[0]]; p == nil || p.UID == first.UID {
			return fmt.Errorf("there is %v", p)
		}
		return nil
	})
	d.on("v1", d.nodes[:2]...)
	spec := d.wish().Spec.Template
	spec.Spec.NodeName = d.nodes[1]
	double := must(w.kube.CoreV1().Pods(ns).Create(w.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "double", Labels: spec.Labels}, Spec: spec.Spec}, metav1.CreateOptions{}))(w)
	w.until("the double to go", func() error {
		if p, err := w.kube.CoreV1().Pods(ns).Get(w.Context(), double.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("there is %+v, %v", p.OwnerReferences, err)
		}
		return nil
	})
	d.on("v1", d.nodes[:2]...)

	// a node that goes counts no more
	w.player.set(func() { delete(w.player.nodes, d.nodes[1]) })
	if err := w.kube.CoreV1().Nodes().Delete(w.Context(), d.nodes[1], metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("a node less", func() error {
		ds := must(w.kube.AppsV1().DaemonSets(ns).Get(w.Context(), "log", metav1.GetOptions{}))(w)
		if s := ds.Status; s.DesiredNumberScheduled != 1 || s.CurrentNumberScheduled != 1 || s.NumberMisscheduled != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func testDaemonRollout(w *world, ns string) {
	d := newDaemons(w, ns, "a", "b", "c")
	d.create(func(ds *appsv1.DaemonSet) {
		ds.Annotations = map[string]string{"kubernetes.io/change-cause": "the beginning"}
	})
	d.on("v1", d.nodes...)
	saying(w, genuineKubectl(w, ns, "rollout", "status", "ds/log", "--timeout=50s"), `daemon set "log" successfully rolled out`)

	stop := w.watchAvailable(ns, 2) // maxUnavailable is 1
	genuineKubectl(w, ns, "set", "image", "ds/log", "c=v2")
	saying(w, genuineKubectl(w, ns, "rollout", "status", "ds/log", "--timeout=50s"), `daemon set "log" successfully rolled out`)
	stop()
	d.on("v2", d.nodes...)
	saying(w, genuineKubectl(w, ns, "rollout", "history", "ds/log"), "the beginning")

	// a broken template: one pod is lost to it and no other. A good one heals that, and what still runs of it is left alone.
	before := d.pods(false)
	w.player.set(func() { w.player.sick = "sick" })
	genuineKubectl(w, ns, "set", "image", "ds/log", "c=sick")
	w.until("the broken pod", func() error {
		for _, p := range d.pods(false) {
			if p.Spec.Containers[0].Image == "sick" && p.Spec.NodeName != "" {
				return nil
			}
		}
		return fmt.Errorf("there is none")
	})
	saying(w, genuineKubectl(w, ns, "rollout", "undo", "ds/log"), "daemonset.apps/log rolled back")
	saying(w, genuineKubectl(w, ns, "rollout", "status", "ds/log", "--timeout=50s"), "successfully rolled out")
	d.on("v2", d.nodes...)
	kept := 0
	for n, p := range d.pods(false) {
		if before[n].UID == p.UID {
			kept++
		}
	}
	if kept != 2 {
		w.Errorf("%d pods were left alone, want 2", kept)
	}
	revs := must(w.kube.AppsV1().ControllerRevisions(ns).List(w.Context(), metav1.ListOptions{}))(w)
	var numbers []int64
	for _, r := range revs.Items {
		numbers = append(numbers, r.Revision)
	}
	if slices.Sort(numbers); !slices.Equal(numbers, []int64{1, 3, 4}) {
		w.Errorf("revisions %v, want 1, 3 and 4", numbers)
	}

	genuineKubectl(w, ns, "rollout", "undo", "ds/log", "--to-revision=1")
	d.on("v1", d.nodes...)
	genuineKubectl(w, ns, "rollout", "restart", "ds/log")
	saying(w, genuineKubectl(w, ns, "rollout", "status", "ds/log", "--timeout=50s"), "successfully rolled out")

	d.patch(`{"spec":{"revisionHistoryLimit":1}}`)
	w.until("a shorter history", func() error {
		if revs := must(w.kube.AppsV1().ControllerRevisions(ns).List(w.Context(), metav1.ListOptions{}))(w); len(revs.Items) != 2 {
			return fmt.Errorf("%d revisions", len(revs.Items))
		}
		return nil
	})

	d.patch(`{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"containers":[{"name":"c","image":"v5"}]}}}}`)
	w.until("the new generation seen", func() error {
		ds := must(w.kube.AppsV1().DaemonSets(ns).Get(w.Context(), "log", metav1.GetOptions{}))(w)
		if s := ds.Status; s.ObservedGeneration < ds.Generation || s.UpdatedNumberScheduled != 0 || s.NumberAvailable != 3 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	for _, p := range d.pods(false) {
		if p.Spec.Containers[0].Image != "v1" {
			w.Errorf("pod %s was replaced", p.Name)
		}
		if err := w.kube.CoreV1().Pods(ns).Delete(w.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	d.on("v5", d.nodes...)
}

func testDaemonSurge(w *world, ns string) {
	d := newDaemons(w, ns, "a", "b", "c")
	d.create(func(ds *appsv1.DaemonSet) {
		none, half := intstr.FromInt32(0), intstr.FromString("50%")
		ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &half}
	})
	d.on("v1", d.nodes...)
	stop := w.watchAvailable(ns, 3)
	w.player.set(func() { w.player.sick = "sick" })
	d.patch(image("sick"))
	w.until("two pods more", func() error {
		list := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w)
		if len(list.Items) != 5 {
			return fmt.Errorf("%d pods", len(list.Items))
		}
		return nil
	})
	d.patch(image("v3"))
	w.until("the rollout", func() error {
		ds := must(w.kube.AppsV1().DaemonSets(ns).Get(w.Context(), "log", metav1.GetOptions{}))(w)
		if s := ds.Status; s.ObservedGeneration < ds.Generation || s.UpdatedNumberScheduled != 3 || s.NumberAvailable != 3 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	d.on("v3", d.nodes...)
	stop()
}

func testDaemonFailed(w *world, ns string) {
	d := newDaemons(w, ns, "a")
	failing := ns + "-fails"
	w.player.script(failing, func(ctx context.Context, o *corev1.Pod) {
		o.Status.Phase = corev1.PodFailed
		w.kube.CoreV1().Pods(o.Namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{}) // tried again at the next look
	})
	d.create(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = failing })
	d.event("FailedDaemonPod", fmt.Sprintf("on node %s, will try to kill it", d.nodes[0]))
	w.until("a third pod", func() error {
		list := must(w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=DaemonSet,reason=SuccessfulCreate"}))(w)
		if len(list.Items) < 3 {
			return fmt.Errorf("%d were made", len(list.Items))
		}
		return nil
	})
	d.patch(image("v2"))
	d.on("v2", d.nodes...)
}

// testDaemonOrphans: pods and revisions that outlive their DaemonSet are those of the next of its name.
func testDaemonOrphans(w *world, ns string) {
	d := newDaemons(w, ns, "a", "b")
	d.create()
	d.on("v1", d.nodes...)
	before := d.pods(false)
	orphan := metav1.DeletePropagationOrphan
	if err := w.kube.AppsV1().DaemonSets(ns).Delete(w.Context(), "log", metav1.DeleteOptions{PropagationPolicy: &orphan}); err != nil {
		w.Fatal(err)
	}
	w.until("its end", func() error {
		if _, err := w.kube.AppsV1().DaemonSets(ns).Get(w.Context(), "log", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
	again := d.create()
	d.on("v1", d.nodes...)
	for n, p := range d.pods(false) {
		if p.UID != before[n].UID || !metav1.IsControlledBy(p, again) {
			w.Errorf("on %s there is %s, owned by %+v", n, p.Name, p.OwnerReferences)
		}
	}
	revs := must(w.kube.AppsV1().ControllerRevisions(ns).List(w.Context(), metav1.ListOptions{}))(w)
	if len(revs.Items) != 1 || !metav1.IsControlledBy(&revs.Items[0], again) {
		w.Errorf("%d revisions", len(revs.Items))
	}
	// one that is labelled away is released, and replaced
	away := before[d.nodes[0]].Name
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), away, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"away"}}}`), metav1.PatchOptions{}))(w)
	w.until("its release", func() error {
		if p := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), away, metav1.GetOptions{}))(w); len(p.OwnerReferences) > 0 {
			return fmt.Errorf("%+v", p.OwnerReferences)
		}
		return nil
	})
	w.until("its replacement", func() error {
		list := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=log"}))(w)
		if len(list.Items) != 2 {
			return fmt.Errorf("%d pods", len(list.Items))
		}
		return nil
	})
}

// testDaemonCollision: the name of the first revision is taken by something else.
func testDaemonCollision(w *world, ns string) {
	d := newDaemons(w, ns, "a")
	dry := must(w.kube.AppsV1().DaemonSets(ns).Create(w.Context(), d.wish(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}))(w)
	taken := must(revisions.Make(revisions.Wish{Owner: dry, Kind: appsv1.SchemeGroupVersion.WithKind("DaemonSet"), Template: &dry.Spec.Template, HashLabel: "controller-revision-hash"}))(w)
	taken.OwnerReferences, taken.Labels = nil, nil
	must(w.kube.AppsV1().ControllerRevisions(ns).Create(w.Context(), taken, metav1.CreateOptions{}))(w)
	d.create()
	d.on("v1", d.nodes...)
	ds := must(w.kube.AppsV1().DaemonSets(ns).Get(w.Context(), "log", metav1.GetOptions{}))(w)
	if ds.Status.CollisionCount == nil || *ds.Status.CollisionCount != 1 {
		w.Errorf("collisions: %v, want 1", ds.Status.CollisionCount)
	}
}

// testDaemonQuiet: a node whose heart beats, or whose labels change in a way that is nobody's business, makes nobody write.
func testDaemonQuiet(w *world, ns string) {
	d := newDaemons(w, ns, "a", "b")
	d.create()
	d.on("v1", d.nodes...)
	w.quiet(func() { d.patchNode("a", fmt.Sprintf(`{"metadata":{"labels":{"beat":"%d"}}}`, w.writes.Load())) })
}
