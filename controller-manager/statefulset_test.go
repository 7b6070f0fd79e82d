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
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/pkg/pod"
)

func TestStatefulSets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.player.set(func() { w.player.sick = "bad" })
	w.sub("sts-order", testStatefulOrder)
	w.sub("sts-parallel", testStatefulParallel)
	w.sub("sts-rollout", testStatefulRollout)
	w.sub("sts-partition", testStatefulPartition)
	w.sub("sts-healing", testStatefulHealing)
	w.sub("sts-claims", testStatefulClaims)
	w.sub("sts-keeping", testStatefulRetention)
	w.sub("sts-adoption", testStatefulAdoption)
	w.sub("sts-failures", testStatefulFailures)
	w.sub("sts-lost", testStatefulLostNode)
	w.sub("sts-rivals", testStatefulRivals)
	w.sub("sts-term", testStatefulTerm)
}

// stateful is a set of so many pods of the image v1.
func stateful(n int32, changes ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	labels := map[string]string{"app": "web"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &n, ServiceName: "peers", Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
		},
	}
	for _, c := range changes {
		c(set)
	}
	return set
}

func atOnce(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }

func withClaims(s *appsv1.StatefulSet) {
	s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}},
	}}
	s.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
}

func (w *world) makeSet(ns string, set *appsv1.StatefulSet) {
	w.Helper()
	must(w.kube.AppsV1().StatefulSets(ns).Create(w.Context(), set, metav1.CreateOptions{}))(w)
}

func (w *world) patchSet(ns, body string) *appsv1.StatefulSet {
	w.Helper()
	return must(w.kube.AppsV1().StatefulSets(ns).Patch(w.Context(), "web", types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}))(w)
}

func (w *world) scaleSet(ns string, n int) {
	w.Helper()
	w.patchSet(ns, fmt.Sprintf(`{"spec":{"replicas":%d}}`, n))
}

// setPods are the pods of a namespace by name, as NAME=IMAGE, with what they are like when they are not ready.
func (w *world) setPods(ns string) string {
	w.Helper()
	list, err := w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	var out []string
	for i := range list.Items {
		p := &list.Items[i]
		s := p.Name + "=" + p.Spec.Containers[0].Image
		if p.DeletionTimestamp != nil {
			s += ":leaving"
		} else if !pod.Ready(p) {
			s += ":unready"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// settled waits until a namespace has these pods, and the set's status says so.
func (w *world) settled(ns, pods string) {
	w.Helper()
	w.until("the pods "+pods, func() error {
		if got := w.setPods(ns); got != pods {
			return fmt.Errorf("pods %s", got)
		}
		set, err := w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		n, ready := len(strings.Fields(pods)), 0
		for _, p := range strings.Fields(pods) {
			if !strings.Contains(p, ":") {
				ready++
			}
		}
		if s := set.Status; s.ObservedGeneration != set.Generation || int(s.Replicas) != n || int(s.ReadyReplicas) != ready || int(s.AvailableReplicas) != ready {
			return fmt.Errorf("generation %d, status %+v", set.Generation, s)
		}
		return nil
	})
}

// looked changes something of the set that asks for nothing, and waits until the controller has seen it.
func (w *world) looked(ns string) {
	w.Helper()
	set := must(w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	want := w.patchSet(ns, fmt.Sprintf(`{"spec":{"revisionHistoryLimit":%d}}`, *set.Spec.RevisionHistoryLimit+1)).Generation
	w.until("a look at the set", func() error {
		set, err := w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{})
		if err == nil && set.Status.ObservedGeneration < want {
			err = fmt.Errorf("generation %d is seen, not %d", set.Status.ObservedGeneration, want)
		}
		return err
	})
}

// saidOf waits for an event about the set.
func (w *world) saidOf(ns, reason, message string) {
	w.Helper()
	w.until("the event "+message, func() error {
		list, err := w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=StatefulSet"})
		if err != nil {
			return err
		}
		var all []string
		for _, e := range list.Items {
			if e.Reason == reason && e.Message == message {
				return nil
			}
			all = append(all, e.Reason+": "+e.Message)
		}
		return fmt.Errorf("events %q", all)
	})
}

// kubectl runs the genuine one and returns what it said; it must succeed.
func (w *world) kubectl(ns string, args ...string) string {
	w.Helper()
	bin := filepath.Join("..", "bin", "kubectl")
	if _, err := os.Stat(bin); err != nil {
		w.Fatalf("no kubectl: run make tools: %v", err)
	}
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append([]string{"--kubeconfig=" + w.cluster.Kubeconfig("admin", "system:masters"), "-n", ns}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+w.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		w.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// gate lets pods of an image become ready by name.
type gate struct {
	w    *world
	mu   sync.Mutex
	open map[string]bool // guarded by mu
}

func (w *world) gate(image string) *gate {
	g := &gate{w: w, open: map[string]bool{}}
	w.player.script(image, func(ctx context.Context, p *corev1.Pod) {
		g.mu.Lock()
		want := corev1.ConditionFalse
		if g.open[p.Name] {
			want = corev1.ConditionTrue
		}
		g.mu.Unlock()
		c := pod.Condition(p, corev1.PodReady)
		if c != nil && c.Status == want && p.Status.Phase == corev1.PodRunning {
			return
		}
		p.Status.Phase = corev1.PodRunning
		pod.SetCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: want}, time.Now())
		w.kube.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}) // else at the next look
	})
	return g
}

func (g *gate) set(open bool, names ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range names {
		g.open[n] = open
	}
}

func testStatefulOrder(w *world, ns string) {
	g := w.gate("gated")
	w.makeSet(ns, stateful(3, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "gated" }))
	w.settled(ns, "web-0=gated:unready")
	w.looked(ns)
	w.settled(ns, "web-0=gated:unready")
	g.set(true, "web-0")
	w.settled(ns, "web-0=gated web-1=gated:unready")
	g.set(true, "web-1", "web-2")
	w.settled(ns, "web-0=gated web-1=gated web-2=gated")
	set := must(w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	p := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-1", metav1.GetOptions{}))(w)
	if p.Spec.Hostname != "web-1" || p.Spec.Subdomain != "peers" || p.Labels["statefulset.kubernetes.io/pod-name"] != "web-1" ||
		p.Labels["apps.kubernetes.io/pod-index"] != "1" || p.Labels["controller-revision-hash"] != set.Status.UpdateRevision || set.Status.UpdateRevision == "" {
		w.Errorf("pod %s.%s with labels %v, revision %s", p.Spec.Hostname, p.Spec.Subdomain, p.Labels, set.Status.UpdateRevision)
	}
	w.saidOf(ns, "SuccessfulCreate", "create Pod web-2 in StatefulSet web successful")

	g.set(false, "web-0")
	w.settled(ns, "web-0=gated:unready web-1=gated web-2=gated")
	w.scaleSet(ns, 1)
	w.looked(ns)
	w.settled(ns, "web-0=gated:unready web-1=gated web-2=gated")
	g.set(true, "web-0")
	w.settled(ns, "web-0=gated")
	w.saidOf(ns, "SuccessfulDelete", "delete Pod web-2 in StatefulSet web successful")

	// A higher start: the new ones first, then the old ones go.
	w.patchSet(ns, `{"spec":{"ordinals":{"start":3}}}`)
	w.until("web-3", func() error {
		_, err := w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-3", metav1.GetOptions{})
		return err
	})
	w.settled(ns, "web-0=gated web-3=gated:unready")
	g.set(true, "web-3")
	w.settled(ns, "web-3=gated")
	w.scaleSet(ns, 0)
	w.settled(ns, "")
}

func testStatefulParallel(w *world, ns string) {
	g := w.gate("gated")
	w.makeSet(ns, stateful(4, atOnce, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "gated" }))
	w.settled(ns, "web-0=gated:unready web-1=gated:unready web-2=gated:unready web-3=gated:unready")
	w.scaleSet(ns, 2)
	w.settled(ns, "web-0=gated:unready web-1=gated:unready")
	g.set(true, "web-0", "web-1")
	w.settled(ns, "web-0=gated web-1=gated")
	two := intstr.FromInt32(2)
	set := must(w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &two
	set.Spec.Template.Spec.Containers[0].Image = "v2"
	must(w.kube.AppsV1().StatefulSets(ns).Update(w.Context(), set, metav1.UpdateOptions{}))(w)
	w.settled(ns, "web-0=v2 web-1=v2")
}

func testStatefulRollout(w *world, ns string) {
	w.makeSet(ns, stateful(3, func(s *appsv1.StatefulSet) { limit := int32(2); s.Spec.RevisionHistoryLimit = &limit }))
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v1")
	stop := w.watchAvailable(ns, 2)
	w.kubectl(ns, "set", "image", "sts/web", "c=v2")
	if out := w.kubectl(ns, "rollout", "status", "sts/web", "--timeout=50s"); !strings.Contains(out, "partitioned roll out complete: 3 new pods have been updated...") {
		w.Errorf("rollout status said %q", out)
	}
	w.settled(ns, "web-0=v2 web-1=v2 web-2=v2")
	set := must(w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	if s := set.Status; s.CurrentRevision != s.UpdateRevision || s.CurrentReplicas != 3 || s.UpdatedReplicas != 3 {
		w.Errorf("status after the rollout: %+v", s)
	}
	second := set.Status.CurrentRevision
	if out := w.kubectl(ns, "rollout", "history", "sts/web"); !strings.Contains(out, "\n1 ") || !strings.Contains(out, "\n2 ") {
		w.Errorf("rollout history said %q", out)
	}
	if out := w.kubectl(ns, "rollout", "history", "sts/web", "--revision=1"); !strings.Contains(out, "v1") || strings.Contains(out, "v2") {
		w.Errorf("revision 1 is %q", out)
	}
	w.kubectl(ns, "rollout", "undo", "sts/web")
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v1")
	if out := w.kubectl(ns, "rollout", "history", "sts/web"); strings.Contains(out, "\n1 ") || !strings.Contains(out, "\n2 ") || !strings.Contains(out, "\n3 ") {
		w.Errorf("rollout history after undo said %q", out)
	}
	w.kubectl(ns, "rollout", "restart", "sts/web")
	w.kubectl(ns, "rollout", "status", "sts/web", "--timeout=50s")
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v1")
	w.kubectl(ns, "rollout", "undo", "sts/web", "--to-revision=2")
	w.settled(ns, "web-0=v2 web-1=v2 web-2=v2")
	stop()
	set = must(w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	if set.Status.CurrentRevision != second {
		w.Errorf("revision %s after going back, want %s", set.Status.CurrentRevision, second)
	}
	for _, v := range []string{"v3", "v4"} {
		w.kubectl(ns, "set", "image", "sts/web", "c="+v)
		w.settled(ns, "web-0="+v+" web-1="+v+" web-2="+v)
	}
	w.until("a history of two beside the one in use", func() error {
		revs, err := w.kube.AppsV1().ControllerRevisions(ns).List(w.Context(), metav1.ListOptions{})
		if err == nil && len(revs.Items) != 3 {
			err = fmt.Errorf("%d revisions", len(revs.Items))
		}
		return err
	})
}

func testStatefulPartition(w *world, ns string) {
	w.makeSet(ns, stateful(3))
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v1")
	w.patchSet(ns, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}`)
	w.patchSet(ns, image("v2"))
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v2")
	if out := w.kubectl(ns, "rollout", "status", "sts/web", "--timeout=50s"); !strings.Contains(out, "partitioned roll out complete: 1 new pods have been updated...") {
		w.Errorf("rollout status said %q", out)
	}
	for _, name := range []string{"web-0", "web-2"} { // each comes back as it was
		p := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), name, metav1.GetOptions{}))(w)
		if err := w.kube.CoreV1().Pods(ns).Delete(w.Context(), name, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.until(name+" anew", func() error {
			now, err := w.kube.CoreV1().Pods(ns).Get(w.Context(), name, metav1.GetOptions{})
			if err == nil && now.UID == p.UID {
				err = fmt.Errorf("it is the old one")
			}
			return err
		})
		w.settled(ns, "web-0=v1 web-1=v1 web-2=v2")
	}
	w.patchSet(ns, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	w.settled(ns, "web-0=v2 web-1=v2 web-2=v2")
	w.patchSet(ns, `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}`)
	w.patchSet(ns, image("v3"))
	w.looked(ns)
	w.settled(ns, "web-0=v2 web-1=v2 web-2=v2")
	if err := w.kube.CoreV1().Pods(ns).Delete(w.Context(), "web-1", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.settled(ns, "web-0=v2 web-1=v3 web-2=v2")
}

func testStatefulHealing(w *world, ns string) {
	w.makeSet(ns, stateful(3, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "bad" }))
	w.settled(ns, "web-0=bad:unready")
	w.patchSet(ns, image("v1"))
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v1")

	stop := w.watchAvailable(ns, 2)
	w.patchSet(ns, image("bad"))
	w.settled(ns, "web-0=v1 web-1=v1 web-2=bad:unready")
	w.patchSet(ns, image("v2"))
	w.settled(ns, "web-0=v2 web-1=v2 web-2=v2")
	w.patchSet(ns, image("bad"))
	w.settled(ns, "web-0=v2 web-1=v2 web-2=bad:unready")
	w.kubectl(ns, "rollout", "undo", "sts/web")
	w.settled(ns, "web-0=v2 web-1=v2 web-2=v2")
	stop()
}

func testStatefulFailures(w *world, ns string) {
	pods := w.kube.CoreV1().Pods(ns)
	stranger := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v0"}}}}
	must(pods.Create(w.Context(), stranger, metav1.CreateOptions{}))(w)
	w.makeSet(ns, stateful(2))
	w.saidOf(ns, "FailedCreate", `create Pod web-0 in StatefulSet web failed error: pods "web-0" already exists`)
	if err := pods.Delete(w.Context(), "web-0", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.settled(ns, "web-0=v1 web-1=v1")
	for _, phase := range []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded} {
		p := must(pods.Get(w.Context(), "web-1", metav1.GetOptions{}))(w)
		p.Status.Phase = phase
		pod.SetCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}, time.Now())
		must(pods.UpdateStatus(w.Context(), p, metav1.UpdateOptions{}))(w)
		w.until("another web-1", func() error {
			now, err := pods.Get(w.Context(), "web-1", metav1.GetOptions{})
			if err == nil && now.UID == p.UID {
				err = fmt.Errorf("it is the one that was %s", phase)
			}
			return err
		})
		w.settled(ns, "web-0=v1 web-1=v1")
	}
	p := must(pods.Patch(w.Context(), "web-0", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"statefulset.kubernetes.io/pod-name":null,"apps.kubernetes.io/pod-index":"7"}}}`), metav1.PatchOptions{}))(w)
	w.until("the labels put back", func() error {
		now, err := pods.Get(w.Context(), "web-0", metav1.GetOptions{})
		if err == nil && (now.Labels["statefulset.kubernetes.io/pod-name"] != "web-0" || now.Labels["apps.kubernetes.io/pod-index"] != "0" || now.UID != p.UID) {
			err = fmt.Errorf("labels %v", now.Labels)
		}
		return err
	})
	w.saidOf(ns, "SuccessfulUpdate", "update Pod web-0 in StatefulSet web successful")
}

func testStatefulLostNode(w *world, ns string) {
	node := ns + "-0"
	w.player.add(w, node)
	pods := w.kube.CoreV1().Pods(ns)
	w.makeSet(ns, stateful(1))
	w.settled(ns, "web-0=v1")
	lost := must(pods.Get(w.Context(), "web-0", metav1.GetOptions{}))(w)
	if lost.Spec.NodeName != node {
		w.Fatalf("web-0 is on %s", lost.Spec.NodeName)
	}
	w.player.set(func() { w.player.nodes[node] = false })
	w.settled(ns, "web-0=v1:leaving")
	w.looked(ns)
	if now := must(pods.Get(w.Context(), "web-0", metav1.GetOptions{}))(w); now.UID != lost.UID {
		w.Error("a pod lost with its node was replaced before it was gone")
	}
	none := int64(0)
	if err := pods.Delete(w.Context(), "web-0", metav1.DeleteOptions{GracePeriodSeconds: &none}); err != nil {
		w.Fatal(err)
	}
	w.settled(ns, "web-0=v1")
	if err := w.kube.CoreV1().Nodes().Delete(w.Context(), node, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

func testStatefulAdoption(w *world, ns string) {
	w.makeSet(ns, stateful(2))
	w.settled(ns, "web-0=v1 web-1=v1")
	w.patchSet(ns, image("v2"))
	w.settled(ns, "web-0=v2 web-1=v2")
	uids := func() string {
		a := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-0", metav1.GetOptions{}))(w)
		b := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-1", metav1.GetOptions{}))(w)
		return string(a.UID + " " + b.UID)
	}
	before := uids()
	first := must(w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	w.kubectl(ns, "delete", "sts", "web", "--cascade=orphan")
	w.until("orphans", func() error {
		p, err := w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-0", metav1.GetOptions{})
		if err == nil && len(p.OwnerReferences) > 0 {
			err = fmt.Errorf("owners %v", p.OwnerReferences)
		}
		return err
	})
	again := stateful(2)
	again.Spec.Template.Spec.Containers[0].Image = "v2"
	w.makeSet(ns, again)
	w.settled(ns, "web-0=v2 web-1=v2")
	if after := uids(); after != before {
		w.Errorf("pods %s were replaced by %s", before, after)
	}
	second := must(w.kube.AppsV1().StatefulSets(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	if second.Status.CurrentRevision != first.Status.CurrentRevision || second.Status.UpdatedReplicas != 2 {
		w.Errorf("status %+v after adoption, %+v before", second.Status, first.Status)
	}
	revs := must(w.kube.AppsV1().ControllerRevisions(ns).List(w.Context(), metav1.ListOptions{}))(w)
	for i := range revs.Items {
		if r := &revs.Items[i]; !metav1.IsControlledBy(r, second) {
			w.Errorf("revision %s belongs to %v", r.Name, r.OwnerReferences)
		}
	}
	if len(revs.Items) != 2 {
		w.Errorf("%d revisions, want 2", len(revs.Items))
	}
	// A pod whose labels no longer match is let go; its name is waited for.
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), "web-1", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"app":"other"}}}`), metav1.PatchOptions{}))(w)
	w.until("its release", func() error {
		p, err := w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-1", metav1.GetOptions{})
		if err == nil && len(p.OwnerReferences) > 0 {
			err = fmt.Errorf("owners %v", p.OwnerReferences)
		}
		return err
	})
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), "web-1", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"app":"web"}}}`), metav1.PatchOptions{}))(w)
	w.until("its adoption", func() error {
		p, err := w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-1", metav1.GetOptions{})
		if err == nil && !metav1.IsControlledBy(p, second) {
			err = fmt.Errorf("owners %v", p.OwnerReferences)
		}
		return err
	})
	if after := uids(); after != before {
		w.Errorf("pods %s were replaced by %s", before, after)
	}
}
