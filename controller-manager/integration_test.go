package main

import (
	"context"
	"fmt"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/pkg/pod"
)

func webApp(replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	one, none := intstr.FromInt32(1), intstr.FromInt32(0)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1",
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}},
		},
	}
}

func TestControllers(t *testing.T) {
	w := newWorld(t)
	w.sub("namespaces", testNamespaceContents)
	w.sub("rollout", testRollout)
	w.sub("replicasets", testReplicaSet)
	w.sub("services", testServices)
	w.sub("told", testEventSources)
	w.sub("emptying", testNamespaceDeletion)
	w.sub("collecting", testGarbage)
	w.sub("stray-leases", testStrayLeases)
	w.sub("life", testNodeLife)
	w.sub("outage", testAPIServerOutage)
	w.sub("quiet", testQuiet)
	w.sub("silence", testSilence)
}

func testNamespaceContents(w *world, ns string) {
	core := w.kube.CoreV1()
	account := func() error {
		_, err := core.ServiceAccounts(ns).Get(w.Context(), "default", metav1.GetOptions{})
		return err
	}
	w.until("the default service account", account)
	ca := func() error {
		m, err := core.ConfigMaps(ns).Get(w.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		if err == nil && (m.Data["ca.crt"] != "the authority\n" || len(m.Data) != 1) {
			err = fmt.Errorf("it holds %v", m.Data)
		}
		return err
	}
	w.until("the root authority", ca)
	if err := core.ServiceAccounts(ns).Delete(w.Context(), "default", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	m := must(core.ConfigMaps(ns).Get(w.Context(), "kube-root-ca.crt", metav1.GetOptions{}))(w)
	m.Data = map[string]string{"ca.crt": "another", "more": "x"}
	must(core.ConfigMaps(ns).Update(w.Context(), m, metav1.UpdateOptions{}))(w)
	w.until("the service account made again", account)
	w.until("the authority set right", ca)
}

// rolledOut says what a rollout lacks, as kubectl rollout status sees it.
func (w *world) rolledOut(ns string) error {
	d, err := w.kube.AppsV1().Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	n, s := *d.Spec.Replicas, d.Status
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != n || s.Replicas != n || s.AvailableReplicas != n {
		return fmt.Errorf("generation %d, status %+v", d.Generation, s)
	}
	i := slices.IndexFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentProgressing })
	if i < 0 || s.Conditions[i].Reason != "NewReplicaSetAvailable" {
		return fmt.Errorf("conditions %+v", s.Conditions)
	}
	return nil
}

func (w *world) patch(ns, body string) {
	w.Helper()
	must(w.kube.AppsV1().Deployments(ns).Patch(w.Context(), "web", types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}))(w)
}

func image(v string) string {
	return fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, v)
}

// watchAvailable fails the test if fewer pods than least are ever ready, by what the API shows, until stop is called.
func (w *world) watchAvailable(ns string, least int) (stop func()) {
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			pods, err := w.kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			ready := 0
			for i := range pods.Items {
				if p := &pods.Items[i]; pod.Ready(p) && pod.Active(p) {
					ready++
				}
			}
			if ready < least {
				w.Errorf("only %d pods are ready, at least %d must be", ready, least)
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func testRollout(w *world, ns string) {
	apps := w.kube.AppsV1()
	must(apps.Deployments(ns).Create(w.Context(), webApp(3), metav1.CreateOptions{}))(w)
	w.until("the first rollout", func() error { return w.rolledOut(ns) })

	stop := w.watchAvailable(ns, 3)
	w.patch(ns, image("v2"))
	w.until("the second rollout", func() error { return w.rolledOut(ns) })
	stop()
	revision := func(want string) {
		w.Helper()
		d := must(apps.Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
		if got := d.Annotations["deployment.kubernetes.io/revision"]; got != want {
			w.Errorf("revision %s, want %s", got, want)
		}
	}
	revision("2")

	w.patch(ns, image("v1")) // what kubectl rollout undo does
	w.until("the rollback", func() error { return w.rolledOut(ns) })
	revision("3")
	sets := must(apps.ReplicaSets(ns).List(w.Context(), metav1.ListOptions{}))(w)
	if len(sets.Items) != 2 {
		w.Errorf("%d ReplicaSets, want 2", len(sets.Items))
	}

	w.patch(ns, `{"spec":{"replicas":5}}`)
	w.until("five", func() error { return w.rolledOut(ns) })

	w.patch(ns, `{"spec":{"paused":true}}`)
	w.patch(ns, image("v3"))
	w.until("the pause", func() error {
		d := must(apps.Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
		if d.Status.ObservedGeneration < d.Generation || !slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Reason == "DeploymentPaused" }) {
			return fmt.Errorf("%+v", d.Status)
		}
		return nil
	})
	if sets := must(apps.ReplicaSets(ns).List(w.Context(), metav1.ListOptions{}))(w); len(sets.Items) != 2 {
		w.Errorf("%d ReplicaSets while paused, want 2", len(sets.Items))
	}
	w.patch(ns, `{"spec":{"paused":false}}`)
	w.until("the rollout after the pause", func() error { return w.rolledOut(ns) })

	w.player.set(func() { w.player.sick = "bad" })
	w.patch(ns, `{"spec":{"progressDeadlineSeconds":2}}`)
	w.patch(ns, image("bad"))
	w.until("the deadline", func() error {
		d := must(apps.Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
		if !slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Reason == "ProgressDeadlineExceeded" }) {
			return fmt.Errorf("%+v", d.Status.Conditions)
		}
		return nil
	})
	w.patch(ns, `{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null},"template":{"spec":{"containers":[{"name":"c","image":"v4"}]}}}}`)
	w.until("the rollout by recreation", func() error { return w.rolledOut(ns) })

	foreground := metav1.DeletePropagationForeground
	if err := apps.Deployments(ns).Delete(w.Context(), "web", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		w.Fatal(err)
	}
	w.until("the end of all", func() error {
		if _, err := apps.Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the Deployment is there: %v", err)
		}
		sets := must(apps.ReplicaSets(ns).List(w.Context(), metav1.ListOptions{}))(w)
		pods := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w)
		if len(sets.Items)+len(pods.Items) > 0 {
			w.Fatalf("the Deployment went before %d ReplicaSets and %d pods", len(sets.Items), len(pods.Items))
		}
		return nil
	})
}

func testReplicaSet(w *world, ns string) {
	pods, sets := w.kube.CoreV1().Pods(ns), w.kube.AppsV1().ReplicaSets(ns)
	two := int32(2)
	d := webApp(2)
	orphan := must(pods.Create(w.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "orphan", Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec}, metav1.CreateOptions{}))(w)
	rs := must(sets.Create(w.Context(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.ReplicaSetSpec{Replicas: &two, Selector: d.Spec.Selector, Template: d.Spec.Template}}, metav1.CreateOptions{}))(w)
	ready := func(n int32) func() error {
		return func() error {
			got := must(sets.Get(w.Context(), "web", metav1.GetOptions{}))(w)
			if got.Status.AvailableReplicas != n || got.Status.Replicas != n || got.Status.ObservedGeneration < got.Generation {
				return fmt.Errorf("%+v", got.Status)
			}
			return nil
		}
	}
	w.until("two pods", ready(2))
	got := must(pods.Get(w.Context(), "orphan", metav1.GetOptions{}))(w)
	if got.UID != orphan.UID || !metav1.IsControlledBy(got, rs) {
		w.Errorf("the orphan was not adopted: %+v", got.OwnerReferences)
	}
	list := must(pods.List(w.Context(), metav1.ListOptions{}))(w)
	if len(list.Items) != 2 {
		w.Errorf("%d pods, want the orphan and one more", len(list.Items))
	}
	// a pod that is labelled away is released and replaced
	must(pods.Patch(w.Context(), "orphan", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"away"}}}`), metav1.PatchOptions{}))(w)
	w.until("its release", func() error {
		p := must(pods.Get(w.Context(), "orphan", metav1.GetOptions{}))(w)
		if len(p.OwnerReferences) > 0 {
			return fmt.Errorf("%+v", p.OwnerReferences)
		}
		return nil
	})
	w.until("its replacement", ready(2))
	// the cheaper ones go first
	mine := must(pods.List(w.Context(), metav1.ListOptions{LabelSelector: "app=web"}))(w)
	dear := mine.Items[0].Name
	must(pods.Patch(w.Context(), dear, types.MergePatchType, []byte(`{"metadata":{"annotations":{"controller.kubernetes.io/pod-deletion-cost":"100"}}}`), metav1.PatchOptions{}))(w)
	// a third pod comes later in the same watch: when it counts, the cost has been seen
	must(sets.Patch(w.Context(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{}))(w)
	w.until("three pods", ready(3))
	must(sets.Patch(w.Context(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{}))(w)
	w.until("one pod", ready(1))
	if _, err := pods.Get(w.Context(), dear, metav1.GetOptions{}); err != nil {
		w.Errorf("the dear pod went: %v", err)
	}
}

func testServices(w *world, ns string) {
	core := w.kube.CoreV1()
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(3), metav1.CreateOptions{}))(w)
	must(core.Services(ns).Create(w.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}}, metav1.CreateOptions{}))(w)
	behind := func(n int) func() error {
		return func() error {
			slices := must(w.kube.DiscoveryV1().EndpointSlices(ns).List(w.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"}))(w)
			ready := 0
			for _, s := range slices.Items {
				for _, e := range s.Endpoints {
					if e.Conditions.Ready != nil && *e.Conditions.Ready && s.Ports[0].Port != nil && *s.Ports[0].Port == 8080 {
						ready++
					}
				}
			}
			e, err := core.Endpoints(ns).Get(w.Context(), "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			old := 0
			for _, s := range e.Subsets {
				old += len(s.Addresses)
			}
			if ready != n || old != n {
				return fmt.Errorf("%d ready in slices, %d in endpoints, want %d", ready, old, n)
			}
			return nil
		}
	}
	w.until("three endpoints", behind(3))
	w.patch(ns, `{"spec":{"replicas":1}}`)
	w.until("one endpoint", behind(1))
	if err := core.Services(ns).Delete(w.Context(), "web", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("slices and endpoints to go with their service", func() error {
		slices := must(w.kube.DiscoveryV1().EndpointSlices(ns).List(w.Context(), metav1.ListOptions{}))(w)
		e := must(core.Endpoints(ns).List(w.Context(), metav1.ListOptions{}))(w)
		if len(slices.Items)+len(e.Items) > 0 {
			return fmt.Errorf("%d slices, %d endpoints", len(slices.Items), len(e.Items))
		}
		return nil
	})
}

func testNamespaceDeletion(w *world, ns string) {
	core := w.kube.CoreV1()
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	must(core.ConfigMaps(ns).Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}}, metav1.CreateOptions{}))(w)
	for i := range 20 {
		must(core.Secrets(ns).Create(w.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i)}}, metav1.CreateOptions{}))(w)
	}
	w.until("the rollout", func() error { return w.rolledOut(ns) })
	if err := core.Namespaces().Delete(w.Context(), ns, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("what holds it up", func() error {
		n := must(core.Namespaces().Get(w.Context(), ns, metav1.GetOptions{}))(w)
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue && c.Message == "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances" {
				return nil
			}
		}
		return fmt.Errorf("%+v", n.Status)
	})
	if left := must(core.Secrets(ns).List(w.Context(), metav1.ListOptions{}))(w); len(left.Items) != 0 {
		w.Errorf("%d secrets are left", len(left.Items))
	}
	must(core.ConfigMaps(ns).Patch(w.Context(), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(w)
	w.until("its end", func() error {
		_, err := core.Namespaces().Get(w.Context(), ns, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there: %v", err)
		}
		return nil
	})
}

func testGarbage(w *world, ns string) {
	maps := w.kube.CoreV1().ConfigMaps(ns)
	yes := true
	family := func(name string) {
		w.Helper()
		owner := must(maps.Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))(w)
		other := must(maps.Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name + "-other"}}, metav1.CreateOptions{}))(w)
		ref := func(o *corev1.ConfigMap) metav1.OwnerReference {
			return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: o.Name, UID: o.UID, BlockOwnerDeletion: &yes}
		}
		child := must(maps.Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name + "-child", OwnerReferences: []metav1.OwnerReference{ref(owner)}}}, metav1.CreateOptions{}))(w)
		must(maps.Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name + "-grandchild", OwnerReferences: []metav1.OwnerReference{ref(child)}}}, metav1.CreateOptions{}))(w)
		must(maps.Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name + "-shared", OwnerReferences: []metav1.OwnerReference{ref(owner), ref(other)}}}, metav1.CreateOptions{}))(w)
	}
	// left are the names that are there, the shared one's owners counted
	left := func(name string, want map[string]int) func() error {
		return func() error {
			for _, suffix := range []string{"", "-child", "-grandchild", "-shared"} {
				m, err := maps.Get(w.Context(), name+suffix, metav1.GetOptions{})
				n, there := want[suffix]
				switch {
				case there && err != nil:
					return err
				case there && len(m.OwnerReferences) != n:
					return fmt.Errorf("%s%s has the owners %+v", name, suffix, m.OwnerReferences)
				case !there && !apierrors.IsNotFound(err):
					return fmt.Errorf("%s%s is there: %v", name, suffix, err)
				}
			}
			return nil
		}
	}
	for policy, want := range map[metav1.DeletionPropagation]map[string]int{
		metav1.DeletePropagationBackground: {"-shared": 1},
		metav1.DeletePropagationForeground: {"-shared": 1},
		metav1.DeletePropagationOrphan:     {"-child": 0, "-grandchild": 1, "-shared": 1},
	} {
		name := map[metav1.DeletionPropagation]string{metav1.DeletePropagationBackground: "back", metav1.DeletePropagationForeground: "fore", metav1.DeletePropagationOrphan: "orphan"}[policy]
		family(name)
		if err := maps.Delete(w.Context(), name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
			w.Fatal(err)
		}
		w.until("what is left after deletion with policy "+string(policy), left(name, want))
	}
	// an owner that never was
	must(maps.Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "stray", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: "never", UID: "no-such-uid"}}}}, metav1.CreateOptions{}))(w)
	w.until("the end of what has no owner", func() error {
		if _, err := maps.Get(w.Context(), "stray", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
}

// testQuiet: when all is as it should be, nothing is written.
func testQuiet(w *world, ns string) {
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	w.until("the rollout", func() error { return w.rolledOut(ns) })
	w.quiet(func() {})
}

// Events name the controller as users of Kubernetes know it, not the daemon.
func testEventSources(w *world, ns string) {
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(1), metav1.CreateOptions{}))(w)
	want := map[string]string{"ScalingReplicaSet": "deployment-controller", "SuccessfulCreate": "replicaset-controller"}
	w.until("the events", func() error {
		list, err := w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		got := map[string]string{}
		for _, e := range list.Items {
			got[e.Reason] = e.Source.Component
		}
		for reason, component := range want {
			if got[reason] != component {
				return fmt.Errorf("they are %v", got)
			}
		}
		return nil
	})
}
