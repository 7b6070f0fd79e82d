package conformance

import (
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// amounts makes a list of resources.
func amounts(cpu, memory, ephemeral string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		corev1.ResourceEphemeralStorage: resource.MustParse(ephemeral),
	}
}

// same ends the test unless got has exactly the amounts of want.
func (r *row) same(what string, got, want corev1.ResourceList) {
	r.Helper()
	if len(got) != len(want) {
		r.Fatalf("%s: got %s, want %s", what, asJSON(got), asJSON(want))
	}
	for name, amount := range want {
		if have := got[name]; have.Cmp(amount) != 0 {
			r.Fatalf("%s: got %s, want %s", what, asJSON(got), asJSON(want))
		}
	}
}

// limited is a pod that no node runs, with these requests and limits.
func limited(name string, requests, limits corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"conformance.example.com/nobody": "has-this"},
			Containers:   []corev1.Container{{Name: "c", Image: "testapp", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}},
		},
	}
}

// SCH-001: pods without requests and limits get those of the LimitRange, those with some get the rest, and pods outside its bounds
// are refused; also after the LimitRange was changed, and no more when it was deleted.
func limitRangeDefaults(r *row) {
	ns := r.namespace()
	ranges, pods := r.kube.CoreV1().LimitRanges(ns), r.kube.CoreV1().Pods(ns)
	label := r.unique()
	w := r.follow(ranges.Watch(r.ctx, labelled(label)))
	request, limit := amounts("100m", "200Mi", "200Gi"), amounts("500m", "500Mi", "500Gi")
	wish := &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "limits", Labels: map[string]string{rowLabel: label}},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Min: amounts("50m", "100Mi", "100Gi"), Max: limit,
			Default: limit, DefaultRequest: request, MaxLimitRequestRatio: nil,
		}}},
	}
	_, err := ranges.Create(r.ctx, wish, metav1.CreateOptions{})
	r.must(err, "creating a LimitRange")
	w.next(watch.Added, "limits", named("limits"))
	made, err := ranges.Get(r.ctx, "limits", metav1.GetOptions{})
	r.must(err, "getting the LimitRange")
	r.same("default of the LimitRange", made.Spec.Limits[0].Default, limit)
	r.same("default request of the LimitRange", made.Spec.Limits[0].DefaultRequest, request)

	created := func(pod *corev1.Pod) corev1.ResourceRequirements {
		r.Helper()
		var out *corev1.Pod
		// The server's admission learns of a new LimitRange a moment later than its maker.
		r.eventually("pod "+pod.Name+" with defaults", func() (bool, error) {
			p, err := pods.Create(r.ctx, pod, metav1.CreateOptions{})
			if err != nil {
				return false, err
			}
			if len(p.Spec.Containers[0].Resources.Limits) == 0 {
				now := int64(0)
				return false, pods.Delete(r.ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
			}
			out = p
			return true, nil
		})
		return out.Spec.Containers[0].Resources
	}
	none := created(limited("none", nil, nil))
	r.same("requests of a pod without", none.Requests, request)
	r.same("limits of a pod without", none.Limits, limit)
	some := created(limited("some", corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("300m")},
		corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("300Mi")}))
	wantRequest := amounts("300m", "300Mi", "200Gi") // a limit alone is the request too
	r.same("requests of a pod with some", some.Requests, wantRequest)
	r.same("limits of a pod with some", some.Limits, amounts("500m", "300Mi", "500Gi"))

	_, err = pods.Create(r.ctx, limited("small", amounts("10m", "50Mi", "50Gi"), nil), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod below the minimum")
	_, err = pods.Create(r.ctx, limited("large", nil, amounts("600m", "600Mi", "600Gi")), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod above the maximum")

	r.again("updating the LimitRange", func() error {
		l, err := ranges.Get(r.ctx, "limits", metav1.GetOptions{})
		if err != nil {
			return err
		}
		l.Spec.Limits[0].Min = amounts("9m", "49Mi", "49Gi")
		_, err = ranges.Update(r.ctx, l, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, "limits", named("limits"))
	r.eventually("a pod that was too small can be made", func() (bool, error) {
		_, err := pods.Create(r.ctx, limited("small", amounts("10m", "50Mi", "50Gi"), nil), metav1.CreateOptions{})
		return err == nil, err
	})
	_, err = pods.Create(r.ctx, limited("large", nil, amounts("600m", "600Mi", "600Gi")), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod above the maximum")

	r.must(ranges.Delete(r.ctx, "limits", metav1.DeleteOptions{}), "deleting the LimitRange")
	w.next(watch.Deleted, "limits", named("limits"))
	r.eventually("a pod that was too large can be made", func() (bool, error) {
		_, err := pods.Create(r.ctx, limited("large", nil, amounts("600m", "600Mi", "600Gi")), metav1.CreateOptions{})
		return err == nil, err
	})
}

// SCH-002: LimitRanges of several namespaces are listed together, patched, and deleted as a collection in one of them.
func limitRangeCollection(r *row) {
	one, other := r.namespace(), r.namespace()
	label := r.unique()
	for _, ns := range []string{one, other} {
		_, err := r.kube.CoreV1().LimitRanges(ns).Create(r.ctx, &corev1.LimitRange{
			ObjectMeta: metav1.ObjectMeta{Name: "limits", Labels: map[string]string{rowLabel: label}},
			Spec:       corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Max: amounts("500m", "500Mi", "500Gi")}}},
		}, metav1.CreateOptions{})
		r.must(err, "creating a LimitRange")
	}
	everywhere := r.kube.CoreV1().LimitRanges(metav1.NamespaceAll)
	list, err := everywhere.List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("LimitRanges in all namespaces", len(list.Items), 2)
	client := r.kube.CoreV1().LimitRanges(one)
	patched, err := client.Patch(r.ctx, "limits", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"patched":"yes"}},"spec":{"limits":[{"type":"Container","max":{"cpu":"900m"}}]}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("label after the patch", patched.Labels["patched"], "yes")
	// The list has no merge key: a patch replaces it whole.
	r.same("maximum after the patch", patched.Spec.Limits[0].Max, corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("900m")})
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "patched=yes"}), "deleting the collection")
	r.eventually("the collection is gone", func() (bool, error) {
		list, err := client.List(r.ctx, metav1.ListOptions{LabelSelector: "patched=yes"})
		return err == nil && len(list.Items) == 0, err
	})
	list, err = everywhere.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("LimitRanges left", len(list.Items), 1)
	r.equal("namespace of the one left", list.Items[0].Namespace, other)
}

// SCH-008: priority classes; their value never changes.
func priorityClasses(r *row) {
	o := operations{
		gvr: schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), kind: "PriorityClass",
		manifest: `{value: 7, description: before}`, edit: `{description: after}`,
	}
	r.operate(o)
	client := r.kube.SchedulingV1().PriorityClasses()
	made, err := client.Create(r.ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: r.unique()}, Value: 8}, metav1.CreateOptions{})
	r.must(err, "creating")
	r.sweep(r.dyn.Resource(o.gvr), made.Name)
	made.Value = 9
	_, err = client.Update(r.ctx, made, metav1.UpdateOptions{})
	r.refused(err, metav1.StatusReasonInvalid, "updating the value")
	_, err = client.Patch(r.ctx, made.Name, types.JSONPatchType, []byte(`[{"op":"replace","path":"/value","value":10}]`), metav1.PatchOptions{})
	r.refused(err, metav1.StatusReasonInvalid, "patching the value")
	patched, err := client.Patch(r.ctx, made.Name, types.MergePatchType, []byte(`{"value":8,"description":"patched"}`), metav1.PatchOptions{})
	r.must(err, "patching with the same value")
	r.equal("description after the patch", patched.Description, "patched")
	r.equal("value after the patch", patched.Value, int32(8))
	r.must(client.Delete(r.ctx, made.Name, metav1.DeleteOptions{}), "deleting")
}
