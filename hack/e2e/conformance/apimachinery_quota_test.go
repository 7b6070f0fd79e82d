package conformance

import (
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
)

// quotaed is a quota of a row.
type quotaed struct {
	*row
	ns, name string
	used     corev1.ResourceList // what it should say is used, of the names that the row is about
}

// list makes a list of resources of pairs of name and amount.
func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

// quota makes a quota and waits until it says that nothing is used of what it names, but for itself.
func (r *row) quota(ns, name string, hard corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) *quotaed {
	r.Helper()
	_, err := r.kube.CoreV1().ResourceQuotas(ns).Create(r.ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes},
	}, metav1.CreateOptions{})
	r.must(err, "creating quota "+name)
	q := &quotaed{r, ns, name, corev1.ResourceList{}}
	for name := range hard {
		q.used[name] = resource.Quantity{}
	}
	if _, own := hard[corev1.ResourceQuotas]; own {
		q.used[corev1.ResourceQuotas] = resource.MustParse("1")
	}
	q.says()
	return q
}

// says waits until the quota says that as much is used as before, but for these pairs.
func (q *quotaed) says(pairs ...string) {
	q.Helper()
	maps.Copy(q.used, list(pairs...))
	q.eventually(fmt.Sprintf("quota %s says that %s are used", q.name, asJSON(q.used)), func() (bool, error) {
		got, err := q.kube.CoreV1().ResourceQuotas(q.ns).Get(q.ctx, q.name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if !covers(got.Status.Used, q.used) || !covers(got.Status.Hard, got.Spec.Hard) {
			return false, fmt.Errorf("its status is %s", asJSON(got.Status))
		}
		return true, nil
	})
}

// covers says whether got has the amounts of want.
func covers(got, want corev1.ResourceList) bool {
	for name, amount := range want {
		if have, ok := got[name]; !ok || have.Cmp(amount) != 0 {
			return false
		}
	}
	return true
}

// spacious are bounds of all kinds that a namespace of a row stays within.
func spacious() corev1.ResourceList {
	return list("pods", "5", "services", "10", "services.nodeports", "1", "services.loadbalancers", "1", "replicationcontrollers", "10",
		"resourcequotas", "1", "cpu", "1", "memory", "500Mi", "ephemeral-storage", "50Gi", "configmaps", "10", "secrets", "10", "persistentvolumeclaims", "10",
		"requests.storage", "10Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims", "10",
		"gold.storageclass.storage.k8s.io/requests.storage", "10Gi", "requests.example.com/dongle", "3", "count/replicasets.apps", "5")
}

// quotaFor makes a quota of all kinds in a new namespace, which has some config maps and secrets already.
func (r *row) quotaFor() *quotaed {
	r.Helper()
	ns := r.namespace()
	hard := spacious()
	// What the cluster itself puts into a namespace, sooner or later.
	delete(hard, "configmaps")
	delete(hard, "secrets")
	return r.quota(ns, "quota", hard)
}

// AM-063: a new quota says what is used: itself.
func quotaCounted(r *row) { r.quotaFor() }

// AM-062: services, their node ports and balancers.
func quotaOfServices(r *row) {
	q := r.quotaFor()
	services := r.kube.CoreV1().Services(q.ns)
	service := func(name string, kind corev1.ServiceType) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: kind,
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}}}}
	}
	_, err := services.Create(r.ctx, service("plain", corev1.ServiceTypeClusterIP), metav1.CreateOptions{})
	r.must(err, "creating a service")
	_, err = services.Create(r.ctx, service("ports", corev1.ServiceTypeNodePort), metav1.CreateOptions{})
	r.must(err, "creating a service with a node port")
	_, err = services.Create(r.ctx, service("balancer", corev1.ServiceTypeLoadBalancer), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a balancer with one more node port")
	q.says("services", "2", "services.nodeports", "1", "services.loadbalancers", "0")
	for _, name := range []string{"plain", "ports"} {
		r.must(services.Delete(r.ctx, name, metav1.DeleteOptions{}), "deleting service "+name)
	}
	q.says("services", "0", "services.nodeports", "0")
}

// AM-061
func quotaOfSecrets(r *row) {
	ns := r.namespace()
	secrets := r.kube.CoreV1().Secrets(ns)
	there, err := secrets.List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing secrets")
	before, most := fmt.Sprint(len(there.Items)), fmt.Sprint(len(there.Items)+1)
	q := &quotaed{r, ns, "quota", list("secrets", before, "resourcequotas", "1")}
	_, err = r.kube.CoreV1().ResourceQuotas(ns).Create(r.ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: q.name},
		Spec: corev1.ResourceQuotaSpec{Hard: list("secrets", most, "resourcequotas", "1")}}, metav1.CreateOptions{})
	r.must(err, "creating a quota")
	q.says()
	secret := func(name string) error {
		_, err := secrets.Create(r.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"key": "value"}}, metav1.CreateOptions{})
		return err
	}
	r.must(secret("one"), "creating a secret")
	q.says("secrets", most)
	r.refused(secret("two"), metav1.StatusReasonForbidden, "creating one secret too many")
	r.must(secrets.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting the secret")
	q.says("secrets", before)
}

// AM-057
func quotaOfConfigMaps(r *row) {
	ns := r.namespace()
	configMaps := r.kube.CoreV1().ConfigMaps(ns)
	var before int
	r.eventually("the namespace has the config map that every one has", func() (bool, error) {
		there, err := configMaps.List(r.ctx, metav1.ListOptions{})
		if err == nil {
			before = len(there.Items)
		}
		return before > 0, err
	})
	most := fmt.Sprint(before + 1)
	q := &quotaed{r, ns, "quota", list("configmaps", fmt.Sprint(before), "resourcequotas", "1")}
	_, err := r.kube.CoreV1().ResourceQuotas(ns).Create(r.ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: q.name},
		Spec: corev1.ResourceQuotaSpec{Hard: list("configmaps", most, "resourcequotas", "1")}}, metav1.CreateOptions{})
	r.must(err, "creating a quota")
	q.says()
	make := func(name string) error {
		_, err := configMaps.Create(r.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"key": "value"}}, metav1.CreateOptions{})
		return err
	}
	r.must(make("one"), "creating a config map")
	q.says("configmaps", most)
	r.refused(make("two"), metav1.StatusReasonForbidden, "creating one config map too many")
	r.must(configMaps.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting the config map")
	q.says("configmaps", fmt.Sprint(before))
}

// AM-058: a pod with requests of all kinds; others that do not fit beside it are refused, and so is changing its requests.
func quotaOfPods(r *row) {
	q := r.quotaFor()
	pods := r.kube.CoreV1().Pods(q.ns)
	const dongle = "example.com/dongle"
	made, err := pods.Create(r.ctx, limited("one", list("cpu", "500m", "memory", "252Mi", "ephemeral-storage", "30Gi", dongle, "2"), list(dongle, "2")), metav1.CreateOptions{})
	r.must(err, "creating a pod")
	one := []string{"pods", "1", "cpu", "500m", "memory", "252Mi", "ephemeral-storage", "30Gi", "requests." + dongle, "2"}
	q.says(one...)
	_, err = pods.Create(r.ctx, limited("cpus", list("cpu", "600m", "memory", "100Mi"), nil), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod that wants more CPU than is left")
	_, err = pods.Create(r.ctx, limited("dongles", list("cpu", "500m", "memory", "100Mi", "ephemeral-storage", "20Gi", dongle, "2"), list(dongle, "2")), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod that wants more dongles than are left")
	_, err = pods.Create(r.ctx, limited("silent", nil, nil), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod that does not say what it wants")
	made.ResourceVersion = "" // others write its status
	made.Spec.Containers[0].Resources.Requests = list("cpu", "100m", "memory", "100Mi", "ephemeral-storage", "10Gi")
	_, err = pods.Update(r.ctx, made, metav1.UpdateOptions{})
	r.refused(err, metav1.StatusReasonInvalid, "changing what a pod wants")
	q.says(one...)
	r.gone(q.ns, "one")
	q.says("pods", "0", "cpu", "0", "memory", "0", "ephemeral-storage", "0", "requests."+dongle, "0")
}

// gone deletes a pod at once.
func (r *row) gone(ns, pod string) {
	r.Helper()
	now := int64(0)
	r.must(r.kube.CoreV1().Pods(ns).Delete(r.ctx, pod, metav1.DeleteOptions{GracePeriodSeconds: &now}), "deleting pod "+pod)
}

// AM-060
func quotaOfReplicationControllers(r *row) {
	q := r.quotaFor()
	client := r.kube.CoreV1().ReplicationControllers(q.ns)
	none := int32(0)
	labels := map[string]string{"name": "one"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: limited("one", nil, nil).Spec}
	_, err := client.Create(r.ctx, &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "one"},
		Spec: corev1.ReplicationControllerSpec{Replicas: &none, Selector: labels, Template: &template}}, metav1.CreateOptions{})
	r.must(err, "creating a replication controller")
	q.says("replicationcontrollers", "1")
	background := metav1.DeletePropagationBackground
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{PropagationPolicy: &background}), "deleting the replication controller")
	q.says("replicationcontrollers", "0")
}

// AM-059
func quotaOfReplicaSets(r *row) {
	q := r.quotaFor()
	client := r.kube.AppsV1().ReplicaSets(q.ns)
	none := int32(0)
	labels := map[string]string{"name": "one"}
	_, err := client.Create(r.ctx, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: appsv1.ReplicaSetSpec{Replicas: &none,
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: limited("one", nil, nil).Spec}}}, metav1.CreateOptions{})
	r.must(err, "creating a replica set")
	q.says("count/replicasets.apps", "1")
	background := metav1.DeletePropagationBackground
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{PropagationPolicy: &background}), "deleting the replica set")
	q.says("count/replicasets.apps", "0")
}

// AM-065: a pod counts in the quota of its scope and not in that of the other.
func quotaBestEffort(r *row) {
	ns := r.namespace()
	best := r.quota(ns, "best-effort", list("pods", "5"), corev1.ResourceQuotaScopeBestEffort)
	rest := r.quota(ns, "not-best-effort", list("pods", "5"), corev1.ResourceQuotaScopeNotBestEffort)
	r.countedBy(limited("best", nil, nil), best, rest)
	r.countedBy(limited("burstable", list("cpu", "500m", "memory", "200Mi"), list("cpu", "1", "memory", "400Mi")), rest, best)
}

// AM-066: the same with a deadline, and what the pods ask for.
func quotaTerminating(r *row) {
	ns := r.namespace()
	hard := list("pods", "5", "requests.cpu", "1", "requests.memory", "500Mi", "limits.cpu", "2", "limits.memory", "1Gi")
	short := r.quota(ns, "terminating", hard, corev1.ResourceQuotaScopeTerminating)
	long := r.quota(ns, "not-terminating", hard, corev1.ResourceQuotaScopeNotTerminating)
	requests, limits := list("cpu", "500m", "memory", "200Mi"), list("cpu", "1", "memory", "400Mi")
	uses := []string{"requests.cpu", "500m", "requests.memory", "200Mi", "limits.cpu", "1", "limits.memory", "400Mi"}
	r.countedBy(limited("long", requests, limits), long, short, uses...)
	bounded := limited("short", requests, limits)
	hour := int64(3600)
	bounded.Spec.ActiveDeadlineSeconds = &hour
	r.countedBy(bounded, short, long, uses...)
}

// countedBy makes a pod that one quota counts and another does not, and takes it away.
func (r *row) countedBy(pod *corev1.Pod, by, not *quotaed, uses ...string) {
	r.Helper()
	_, err := r.kube.CoreV1().Pods(by.ns).Create(r.ctx, pod, metav1.CreateOptions{})
	r.must(err, "creating pod "+pod.Name)
	by.says(append(uses, "pods", "1")...)
	not.says()
	r.gone(by.ns, pod.Name)
	zero := []string{"pods", "0"}
	for i := 0; i < len(uses); i += 2 {
		zero = append(zero, uses[i], "0")
	}
	by.says(zero...)
	not.says()
}

// AM-056
func quotaUpdated(r *row) {
	client := r.kube.CoreV1().ResourceQuotas(r.namespace())
	made, err := client.Create(r.ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota"},
		Spec: corev1.ResourceQuotaSpec{Hard: list("cpu", "1", "memory", "500Mi")}}, metav1.CreateOptions{})
	r.must(err, "creating")
	r.same("bounds", made.Spec.Hard, list("cpu", "1", "memory", "500Mi"))
	wish := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota"}, Spec: corev1.ResourceQuotaSpec{Hard: list("cpu", "2", "memory", "1Gi")}}
	updated, err := client.Update(r.ctx, wish, metav1.UpdateOptions{}) // of no version: whichever is there
	r.must(err, "updating")
	r.same("bounds after the update", updated.Spec.Hard, list("cpu", "2", "memory", "1Gi"))
	got, err := client.Get(r.ctx, "quota", metav1.GetOptions{})
	r.must(err, "getting")
	r.same("bounds got", got.Spec.Hard, list("cpu", "2", "memory", "1Gi"))
	r.must(client.Delete(r.ctx, "quota", metav1.DeleteOptions{}), "deleting")
	_, err = client.Get(r.ctx, "quota", metav1.GetOptions{})
	r.refused(err, metav1.StatusReasonNotFound, "getting what was deleted")
}

// AM-064
func quotaLife(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().ResourceQuotas(ns)
	label := r.unique()
	_, err := client.Create(r.ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota", Labels: map[string]string{rowLabel: label}},
		Spec: corev1.ResourceQuotaSpec{Hard: list("cpu", "1", "memory", "500Mi")}}, metav1.CreateOptions{})
	r.must(err, "creating")
	got, err := client.Get(r.ctx, "quota", metav1.GetOptions{})
	r.must(err, "getting")
	r.same("bounds", got.Spec.Hard, list("cpu", "1", "memory", "500Mi"))
	all, err := r.kube.CoreV1().ResourceQuotas(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("quotas in all namespaces", len(all.Items), 1)
	patched, err := client.Patch(r.ctx, "quota", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"patched":"yes"}},"spec":{"hard":{"memory":"750Mi"}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("label after the patch", patched.Labels["patched"], "yes")
	r.same("bounds after the patch", patched.Spec.Hard, list("cpu", "1", "memory", "750Mi"))
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	_, err = client.Get(r.ctx, "quota", metav1.GetOptions{})
	r.refused(err, metav1.StatusReasonNotFound, "getting what was deleted")
}

// AM-055: the status is updated and patched by hand, which leaves the spec alone, and comes back to what the spec says.
func quotaStatus(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().ResourceQuotas(ns)
	label := r.unique()
	w := r.follow(client.Watch(r.ctx, labelled(label)))
	_, err := client.Create(r.ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota", Labels: map[string]string{rowLabel: label}},
		Spec: corev1.ResourceQuotaSpec{Hard: list("cpu", "500m", "memory", "500Mi")}}, metav1.CreateOptions{})
	r.must(err, "creating")
	w.next(watch.Added, "quota", named("quota"))
	r.again("updating the status", func() error {
		q, err := client.Get(r.ctx, "quota", metav1.GetOptions{})
		if err != nil {
			return err
		}
		q.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard}
		_, err = client.UpdateStatus(r.ctx, q, metav1.UpdateOptions{})
		return err
	})
	hard := func(want corev1.ResourceList) func(metav1.Object) bool {
		return func(o metav1.Object) bool { return covers(o.(*corev1.ResourceQuota).Status.Hard, want) }
	}
	w.next(watch.Modified, "quota with its status", hard(list("cpu", "500m", "memory", "500Mi")))
	patched, err := client.Patch(r.ctx, "quota", types.StrategicMergePatchType, []byte(`{"spec":{"hard":{"cpu":"1","memory":"1Gi"}}}`), metav1.PatchOptions{})
	r.must(err, "patching the spec")
	r.same("bounds after the patch", patched.Spec.Hard, list("cpu", "1", "memory", "1Gi"))
	_, err = client.Patch(r.ctx, "quota", types.StrategicMergePatchType, []byte(`{"status":{"hard":{"cpu":"1","memory":"1Gi"}}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	w.next(watch.Modified, "quota with its patched status", hard(list("cpu", "1", "memory", "1Gi")))
	got, err := r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("resourcequotas")).Namespace(ns).Get(r.ctx, "quota", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.has("getting the status", got, r.tree(`{kind: ResourceQuota, status: {hard: {cpu: "1", memory: 1Gi}}}`))
	patched, err = client.Patch(r.ctx, "quota", types.StrategicMergePatchType, []byte(`{"status":{"hard":{"cpu":"2","memory":"2Gi"}}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status with what the spec does not say")
	r.same("bounds in the status", patched.Status.Hard, list("cpu", "2", "memory", "2Gi"))
	r.same("bounds in the spec", patched.Spec.Hard, list("cpu", "1", "memory", "1Gi"))
	w.next(watch.Modified, "quota with the other status", hard(list("cpu", "2", "memory", "2Gi")))
	(&quotaed{r, ns, "quota", list("cpu", "0", "memory", "0")}).says() // its bounds are those of the spec again
}
