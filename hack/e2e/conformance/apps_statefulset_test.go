package conformance

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
)

// Images of the pods of StatefulSets, before and after an update.
const (
	setImage    = "testapp:1"
	setNewImage = "testapp:2"
)

// ordinalSet is a StatefulSet under test, with the namespace it is in.
type ordinalSet struct {
	*row
	ns, label string
}

// ordinals makes a namespace with a headless service and a StatefulSet web of so many pods that serve and tell whether they are ready.
func (r *row) ordinals(n int32, changes ...func(*appsv1.StatefulSet)) *ordinalSet {
	r.Helper()
	s := &ordinalSet{row: r, ns: r.namespace(), label: r.unique()}
	_, err := r.kube.CoreV1().Services(s.ns).Create(r.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{rowLabel: s.label},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, metav1.CreateOptions{})
	r.must(err, "creating a headless service")
	s.create("web", n, changes...)
	return s
}

func (s *ordinalSet) create(name string, n int32, changes ...func(*appsv1.StatefulSet)) {
	s.Helper()
	labels := map[string]string{rowLabel: s.label, "set": name}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &n, ServiceName: "web", Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				TerminationGracePeriodSeconds: new(int64),
				Containers: []corev1.Container{{Name: "c", Image: setImage, ReadinessProbe: &corev1.Probe{
					ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(8080)}},
					PeriodSeconds: 1, SuccessThreshold: 1, FailureThreshold: 1,
				}}},
			}},
		},
	}
	for _, c := range changes {
		c(set)
	}
	_, err := s.kube.AppsV1().StatefulSets(s.ns).Create(s.ctx, set, metav1.CreateOptions{})
	s.must(err, "creating StatefulSet "+name)
}

func (s *ordinalSet) get() *appsv1.StatefulSet {
	s.Helper()
	set, err := s.kube.AppsV1().StatefulSets(s.ns).Get(s.ctx, "web", metav1.GetOptions{})
	s.must(err, "getting the StatefulSet")
	return set
}

// change patches the set and waits until the controller has seen that.
func (s *ordinalSet) change(patch string) *appsv1.StatefulSet {
	s.Helper()
	sets := s.kube.AppsV1().StatefulSets(s.ns)
	set, err := sets.Patch(s.ctx, "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	s.must(err, "patching the StatefulSet")
	want := set.Generation
	s.eventually(fmt.Sprintf("generation %d is observed", want), func() (bool, error) {
		set, err = sets.Get(s.ctx, "web", metav1.GetOptions{})
		return err == nil && set.Status.ObservedGeneration >= want, err
	})
	return set
}

func (s *ordinalSet) scale(n int) { s.Helper(); s.change(fmt.Sprintf(`{"spec":{"replicas":%d}}`, n)) }

func (s *ordinalSet) image(image string) *appsv1.StatefulSet {
	s.Helper()
	return s.change(fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, image))
}

// pods are the set's, by name, with what they run and what is to be said of them: NAME=IMAGE:unready.
func (s *ordinalSet) pods() (string, error) {
	list, err := s.kube.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: rowLabel + "=" + s.label + ",set=web"})
	if err != nil {
		return "", err
	}
	var out []string
	for _, p := range list.Items {
		text := p.Name + "=v" + strings.TrimPrefix(p.Spec.Containers[0].Image, "testapp:")
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		switch {
		case p.DeletionTimestamp != nil:
			text += ":leaving"
		case p.Status.Phase != corev1.PodRunning:
			text += ":" + string(p.Status.Phase)
		case !ready:
			text += ":unready"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, " "), nil
}

// are waits until the pods are these, and the status says so.
func (s *ordinalSet) are(pods string) {
	s.Helper()
	s.eventually("pods "+pods, func() (bool, error) {
		got, err := s.pods()
		if err != nil {
			return false, err
		}
		set, err := s.kube.AppsV1().StatefulSets(s.ns).Get(s.ctx, "web", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		all := strings.Fields(pods)
		ready := len(slices.DeleteFunc(slices.Clone(all), func(p string) bool { return strings.Contains(p, ":") }))
		if got != pods || int(set.Status.Replicas) != len(all) || int(set.Status.ReadyReplicas) != ready {
			return false, fmt.Errorf("pods %s, status %s", got, asJSON(set.Status))
		}
		return true, nil
	})
}

// tell makes pods say from now on whether they are ready. One that is just being made anew is told as soon as it listens.
func (s *ordinalSet) tell(ready bool, pods ...string) {
	s.Helper()
	for _, p := range pods {
		s.eventually(fmt.Sprintf("%s is told that it is ready: %v", p, ready), func() (bool, error) {
			_, err := s.kube.CoreV1().RESTClient().Post().Namespace(s.ns).Resource("pods").Name(p+":8080").SubResource("proxy").
				Suffix("ready").Param("is", fmt.Sprint(ready)).DoRaw(s.ctx)
			return err == nil, err
		})
	}
}

// revisions waits until pods are of these revisions.
func (s *ordinalSet) revisions(want map[string]string) {
	s.Helper()
	s.eventually("revisions "+asJSON(want), func() (bool, error) {
		for name, rev := range want {
			p, err := s.kube.CoreV1().Pods(s.ns).Get(s.ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			if got := p.Labels[appsv1.ControllerRevisionHashLabelKey]; got != rev {
				return false, fmt.Errorf("%s is of revision %s", name, got)
			}
		}
		return true, nil
	})
}

// APP-053: with the policy Parallel pods are made and ended though others are not ready.
func setBursts(r *row) {
	s := r.ordinals(1, func(set *appsv1.StatefulSet) { set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement })
	s.are("web-0=v1")
	s.tell(false, "web-0")
	s.are("web-0=v1:unready")
	s.scale(3)
	s.are("web-0=v1:unready web-1=v1 web-2=v1")
	s.tell(true, "web-0")
	s.are("web-0=v1 web-1=v1 web-2=v1")
	s.tell(false, "web-0", "web-1", "web-2")
	s.are("web-0=v1:unready web-1=v1:unready web-2=v1:unready")
	s.scale(0)
	s.are("")
}

// APP-054: pods are made in order and ended in reverse order, and neither while one of them is not ready.
func setScales(r *row) {
	s := r.ordinals(1)
	w := r.follow(r.kube.CoreV1().Pods(s.ns).Watch(r.ctx, labelled(s.label)))
	s.are("web-0=v1")
	s.tell(false, "web-0")
	s.are("web-0=v1:unready")
	s.scale(3)
	s.are("web-0=v1:unready") // which the controller has looked at since
	s.tell(true, "web-0")
	s.are("web-0=v1 web-1=v1 web-2=v1")
	for _, p := range []string{"web-0", "web-1", "web-2"} {
		w.next(watch.Added, p, named(p))
	}
	s.tell(false, "web-0", "web-1", "web-2")
	s.are("web-0=v1:unready web-1=v1:unready web-2=v1:unready")
	s.scale(0)
	s.are("web-0=v1:unready web-1=v1:unready web-2=v1:unready")
	s.tell(true, "web-0", "web-1", "web-2")
	for _, p := range []string{"web-2", "web-1", "web-0"} {
		w.next(watch.Deleted, p, named(p))
	}
	s.are("")
}

// APP-055: a pod that its node rejects is deleted and made anew, until the node takes it.
func setReplacesFailed(r *row) {
	key := "conformance.example.com/" + r.unique()
	nodes, err := r.kube.CoreV1().Nodes().List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing nodes")
	i := slices.IndexFunc(nodes.Items, func(n corev1.Node) bool {
		return !n.Spec.Unschedulable && len(n.Spec.Taints) == 0 && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
	if i < 0 {
		r.Fatal("no node is ready and without a taint")
	}
	node := nodes.Items[i].Name
	s := r.ordinals(1, func(set *appsv1.StatefulSet) { // past the scheduler, to a node that does not fit
		set.Spec.Template.Spec.NodeName = node
		set.Spec.Template.Spec.NodeSelector = map[string]string{key: "here"}
	})
	w := r.follow(r.kube.CoreV1().Pods(s.ns).Watch(r.ctx, labelled(s.label)))
	first := w.next(watch.Added, "web-0", named("web-0"))
	w.next(watch.Deleted, "web-0 when it has failed", func(o metav1.Object) bool {
		return o.GetUID() == first.GetUID() && o.(*corev1.Pod).Status.Phase == corev1.PodFailed
	})
	w.next(watch.Added, "web-0 anew", func(o metav1.Object) bool { return o.GetName() == "web-0" && o.GetUID() != first.GetUID() })
	label := func(value string) error {
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value)
		_, err := r.kube.CoreV1().Nodes().Patch(r.ctx, node, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	r.must(label(`"here"`), "labelling the node")
	s.are("web-0=v1")
	r.must(label("null"), "taking the label away")
}

// APP-056: the number of pods is read and written by the scale subresource.
func setScaleSubresource(r *row) {
	s := r.ordinals(1)
	sets := r.kube.AppsV1().StatefulSets(s.ns)
	s.are("web-0=v1")
	scale, err := sets.GetScale(r.ctx, "web", metav1.GetOptions{})
	r.must(err, "getting the scale")
	r.equal("replicas in the scale", scale.Spec.Replicas, int32(1))
	r.equal("replicas in the scale's status", scale.Status.Replicas, int32(1))
	scale.ResourceVersion = "" // whatever has been written since
	scale.Spec.Replicas = 2
	updated, err := sets.UpdateScale(r.ctx, "web", scale, metav1.UpdateOptions{})
	r.must(err, "updating the scale")
	r.equal("replicas after the update", updated.Spec.Replicas, int32(2))
	r.equal("replicas of the set", *s.get().Spec.Replicas, int32(2))
	s.are("web-0=v1 web-1=v1")
	var patched autoscalingv1.Scale
	r.must(r.kube.AppsV1().RESTClient().Patch(types.StrategicMergePatchType).Namespace(s.ns).Resource("statefulsets").Name("web").SubResource("scale").
		Body([]byte(`{"spec":{"replicas":4}}`)).Do(r.ctx).Into(&patched), "patching the scale")
	r.equal("replicas after the patch", patched.Spec.Replicas, int32(4))
	r.equal("replicas of the set", *s.get().Spec.Replicas, int32(4))
	s.are("web-0=v1 web-1=v1 web-2=v1 web-3=v1")
}

// APP-057: StatefulSets are listed in all namespaces, patched, and deleted as a collection.
func setCollection(r *row) {
	s := r.ordinals(1)
	s.are("web-0=v1")
	set := s.change(`{"metadata":{"labels":{"patched":"yes"}},"spec":{"replicas":2,"template":{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"` + setNewImage + `"}]}}}}`)
	r.equal("label after the patch", set.Labels["patched"], "yes")
	r.equal("replicas after the patch", *set.Spec.Replicas, int32(2))
	r.equal("image after the patch", set.Spec.Template.Spec.Containers[0].Image, setNewImage)
	s.are("web-0=v2 web-1=v2")
	everywhere, err := r.kube.AppsV1().StatefulSets(metav1.NamespaceAll).List(r.ctx, labelled(s.label))
	r.must(err, "listing in all namespaces")
	r.equal("StatefulSets in all namespaces", len(everywhere.Items), 1)
	r.equal("the one", everywhere.Items[0].Namespace+"/"+everywhere.Items[0].Name, s.ns+"/web")
	none := int64(0)
	r.must(r.kube.AppsV1().StatefulSets(s.ns).DeleteCollection(r.ctx, metav1.DeleteOptions{GracePeriodSeconds: &none}, labelled(s.label)), "deleting the collection")
	r.eventually("the collection is gone", func() (bool, error) {
		left, err := r.kube.AppsV1().StatefulSets(metav1.NamespaceAll).List(r.ctx, labelled(s.label))
		return err == nil && len(left.Items) == 0, err
	})
}

// APP-058: an update reaches only pods from the partition on; others keep, and get back, the former revision.
func setPartitions(r *row) {
	s := r.ordinals(3, func(set *appsv1.StatefulSet) {
		above := int32(3)
		set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &above}}
	})
	s.are("web-0=v1 web-1=v1 web-2=v1")
	set := s.get()
	was := set.Status.CurrentRevision
	r.equal("revision to be updated to, before any update", set.Status.UpdateRevision, was)
	s.revisions(map[string]string{"web-0": was, "web-1": was, "web-2": was})

	set = s.image(setNewImage)
	is := set.Status.UpdateRevision
	if is == was || set.Status.CurrentRevision != was {
		r.Fatalf("revisions %s and %s after an update of the template, which was of %s", set.Status.CurrentRevision, is, was)
	}
	s.are("web-0=v1 web-1=v1 web-2=v1")
	partition := func(n int) {
		s.change(fmt.Sprintf(`{"spec":{"updateStrategy":{"rollingUpdate":{"partition":%d}}}}`, n))
	}
	partition(2)
	s.are("web-0=v1 web-1=v1 web-2=v2")
	s.revisions(map[string]string{"web-0": was, "web-1": was, "web-2": is})
	for _, p := range []string{"web-0", "web-2"} {
		r.must(r.kube.CoreV1().Pods(s.ns).Delete(r.ctx, p, metav1.DeleteOptions{}), "deleting "+p)
	}
	s.are("web-0=v1 web-1=v1 web-2=v2")
	s.revisions(map[string]string{"web-0": was, "web-1": was, "web-2": is})
	partition(1)
	s.are("web-0=v1 web-1=v2 web-2=v2")
	partition(0)
	s.are("web-0=v2 web-1=v2 web-2=v2")
	s.revisions(map[string]string{"web-0": is, "web-1": is, "web-2": is})
	s.eventually("the update is complete", func() (bool, error) { return s.get().Status.CurrentRevision == is, nil })
}

// APP-059: an update replaces the pods from the highest to the lowest, and so does taking it back, which gives the former revision again.
func setRollsBack(r *row) {
	s := r.ordinals(3)
	s.are("web-0=v1 web-1=v1 web-2=v1")
	was := s.get().Status.CurrentRevision
	w := r.follow(r.kube.CoreV1().Pods(s.ns).Watch(r.ctx, labelled(s.label)))
	for range 3 {
		w.next(watch.Added, "a pod that is there", nil)
	}
	order := func() {
		r.Helper()
		for _, p := range []string{"web-2", "web-1", "web-0"} {
			w.next(watch.Deleted, p, named(p))
			w.next(watch.Added, p, named(p))
		}
	}
	is := s.image(setNewImage).Status.UpdateRevision
	order()
	s.are("web-0=v2 web-1=v2 web-2=v2")
	s.revisions(map[string]string{"web-0": is, "web-1": is, "web-2": is})
	s.eventually("the update is complete", func() (bool, error) { return s.get().Status.CurrentRevision == is, nil })

	// One that is not ready holds up neither the update nor, for long, itself.
	s.tell(false, "web-1")
	s.are("web-0=v2 web-1=v2:unready web-2=v2")
	if back := s.image(setImage).Status.UpdateRevision; back != was {
		r.Fatalf("revision %s after going back, want %s again", back, was)
	}
	s.tell(true, "web-1")
	s.are("web-0=v1 web-1=v1 web-2=v1")
	s.revisions(map[string]string{"web-0": was, "web-1": was, "web-2": was})
	s.eventually("going back is complete", func() (bool, error) { return s.get().Status.CurrentRevision == was, nil })
}

// APP-060: the status is got, updated and patched by its subresource, and what others write into its conditions stays.
func setStatus(r *row) {
	s := r.ordinals(1)
	s.are("web-0=v1")
	sets := r.kube.AppsV1().StatefulSets(s.ns)
	w := r.follow(sets.Watch(r.ctx, labelled(s.label)))
	w.next(watch.Added, "web", named("web"))
	with := func(kind appsv1.StatefulSetConditionType) func(metav1.Object) bool {
		return func(o metav1.Object) bool {
			return slices.ContainsFunc(o.(*appsv1.StatefulSet).Status.Conditions, func(c appsv1.StatefulSetCondition) bool { return c.Type == kind })
		}
	}
	got, err := r.dyn.Resource(appsv1.SchemeGroupVersion.WithResource("statefulsets")).Namespace(s.ns).Get(r.ctx, "web", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("kind of what the subresource gives", got.GetKind(), "StatefulSet")
	r.again("updating the status", func() error {
		set, err := sets.Get(r.ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		set.Status.Conditions = append(set.Status.Conditions, appsv1.StatefulSetCondition{
			Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E", Message: "Set from a test"})
		_, err = sets.UpdateStatus(r.ctx, set, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, "web with its condition", with("StatusUpdate"))
	_, err = sets.Patch(r.ctx, "web", types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	w.next(watch.Modified, "web with the other condition", with("StatusPatched"))
	s.scale(2)
	s.are("web-0=v1 web-1=v1")
	if !with("StatusPatched")(s.get()) {
		r.Errorf("a condition was lost: %s", asJSON(s.get().Status))
	}
}
