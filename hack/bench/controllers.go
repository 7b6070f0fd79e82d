package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

const (
	fakeNodes      = 100
	scaledTo       = 1000
	plainClients   = 16 // that create as many pods themselves
	scaleRounds    = 3
	slicedServices = 1000
	sliceChanges   = 300
	emptied        = 2000
	idleSets       = 500
	idleReplicas   = 20
	idleFor        = 30 * time.Second
)

// controllers measures the controller manager on a cluster whose nodes nobody runs: pods are bound and never start.
func (b *bench) controllers(ctx context.Context) error {
	if err := b.cluster("down"); err != nil {
		return err
	}
	if err := b.cluster("up", "-nodes", "0"); err != nil {
		return err
	}
	if err := b.connect(); err != nil {
		return err
	}
	if err := b.fakeNodes(ctx); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{b.scaling, b.slices, b.emptying, b.idling} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fakeNodes makes nodes that are ready for as long as the run lasts: their leases say that they are renewed once a day.
func (b *bench) fakeNodes(ctx context.Context) error {
	_, err := many(ctx, fakeNodes, func(ctx context.Context, _ int, key string) error {
		return b.fakeNode(ctx, key)
	})
	if err != nil {
		return fmt.Errorf("making nodes: %w", err)
	}
	return b.until(ctx, "all nodes may have pods", func() (bool, error) {
		list, err := b.clients.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for i := range list.Items {
			if len(list.Items[i].Spec.Taints) > 0 {
				return false, nil
			}
		}
		return len(list.Items) == fakeNodes, nil
	})
}

// fakeNode makes one.
func (b *bench) fakeNode(ctx context.Context, key string) error {
	roomy := corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("256Gi"), "pods": resource.MustParse("500")}
	_, err := b.clients.Kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: key}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: key}, Spec: coordinationv1.LeaseSpec{
		HolderIdentity: &key, LeaseDurationSeconds: ptr.To(int32(24 * 60 * 60)), RenewTime: ptr.To(metav1.NowMicro())}}
	if _, err := b.clients.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{Capacity: roomy, Allocatable: roomy, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady,
		Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}}})
	if err != nil {
		return err
	}
	_, err = b.clients.Kube.CoreV1().Nodes().Patch(ctx, key, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	return err
}

// until asks every 10 ms, for two minutes at most.
func (b *bench) until(ctx context.Context, what string, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		yes, err := ask()
		if err == nil && yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, errors.Join(ctx.Err(), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// room makes a namespace in which pods may be made.
func (b *bench) room(ctx context.Context, name string) error {
	if _, err := b.clients.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	return b.until(ctx, "namespace "+name+" has its service account", func() (bool, error) {
		_, err := b.clients.Kube.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: podImage}}}
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()}}}
}

// scaling measures a Deployment from 0 to many pods, against as many pods that clients create themselves.
func (b *bench) scaling(ctx context.Context) error {
	var ours, limit samples
	for round := range scaleRounds {
		ns := fmt.Sprintf("plain-%d", round)
		if err := b.room(ctx, ns); err != nil {
			return err
		}
		took, err := manyBy(ctx, plainClients, scaledTo, func(ctx context.Context, _ int, key string) error {
			_, err := b.clients.Kube.CoreV1().Pods(ns).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: key, Labels: map[string]string{"app": "web"}}, Spec: podSpec()}, metav1.CreateOptions{})
			return err
		})
		if err != nil {
			return fmt.Errorf("creating pods: %w", err)
		}
		limit = append(limit, took)
		if err := b.placed(ctx, ns, scaledTo); err != nil {
			return err
		}
		if err := b.removed(ctx, ns); err != nil {
			return err
		}
		ns = fmt.Sprintf("scaled-%d", round)
		if err := b.room(ctx, ns); err != nil {
			return err
		}
		if took, err = b.scaled(ctx, ns); err != nil {
			return fmt.Errorf("scaling a deployment: %w", err)
		}
		ours = append(ours, took)
		if err := b.placed(ctx, ns, scaledTo); err != nil {
			return err
		}
		if err := b.removed(ctx, ns); err != nil {
			return err
		}
	}
	b.report.add(controllersTitle, row{fmt.Sprintf("a Deployment scaled from 0 to %d, until all pods are created (limit: %d creates by %d clients); best of %d", scaledTo, scaledTo, plainClients, scaleRounds),
		millis(ours.at(0)), millis(limit.at(0)), times(ours.at(0), limit.at(0)) + " (aim 1.3)"})
	return nil
}

const controllersTitle = "Controllers, on nodes that nobody runs"

// scaled makes a Deployment without pods, scales it, and returns how long it took until the watch had seen all of them.
func (b *bench) scaled(ctx context.Context, ns string) (time.Duration, error) {
	sets := b.clients.Kube.AppsV1().Deployments(ns)
	if _, err := sets.Create(ctx, deployment("web", 0), metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	if err := b.until(ctx, "the deployment is observed", func() (bool, error) {
		d, err := sets.Get(ctx, "web", metav1.GetOptions{})
		return err == nil && d.Status.ObservedGeneration == d.Generation, err
	}); err != nil {
		return 0, err
	}
	w, err := b.clients.Kube.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	began := time.Now()
	if _, err := sets.Patch(ctx, "web", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, scaledTo), metav1.PatchOptions{}); err != nil {
		return 0, err
	}
	for n := 0; n < scaledTo; {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return 0, errors.New("the watch of pods ended")
			}
			if e.Type == watch.Added {
				n++
			}
		case <-time.After(time.Minute):
			return 0, fmt.Errorf("%d of %d pods after a minute", n, scaledTo)
		}
	}
	return time.Since(began), nil
}

// placed waits until pods are bound, so that the scheduler does not disturb what comes next.
func (b *bench) placed(ctx context.Context, ns string, n int) error {
	return b.until(ctx, "all pods have a node", func() (bool, error) {
		list, err := b.clients.Kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName="})
		if err != nil {
			return false, err
		}
		return len(list.Items) == 0, nil
	})
}

// removed deletes a namespace in the kubelets' place: its pods by force.
func (b *bench) removed(ctx context.Context, ns string) error {
	if err := b.clients.Kube.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return b.until(ctx, "namespace "+ns+" is gone", func() (bool, error) {
		none := int64(0)
		if err := b.clients.Kube.CoreV1().Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &none}, metav1.ListOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return false, err
		}
		_, err := b.clients.Kube.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}

// slices measures a change of a pod's readiness until the slice of its Service says it, beside when the pod's own event is seen.
func (b *bench) slices(ctx context.Context) error {
	const ns = "slices"
	if err := b.room(ctx, ns); err != nil {
		return err
	}
	pods, services := b.clients.Kube.CoreV1().Pods(ns), b.clients.Kube.CoreV1().Services(ns)
	var count sync.Mutex
	made := 0
	if _, err := many(ctx, slicedServices, func(ctx context.Context, _ int, key string) error {
		labels := map[string]string{"app": key}
		if _, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: key}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}); err != nil {
			return err
		}
		spec := podSpec()
		spec.NodeName = "many-000001"
		p, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: key, Labels: labels}, Spec: spec}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		count.Lock()
		made++
		ip := fmt.Sprintf("10.250.%d.%d", made/250, made%250+1)
		count.Unlock()
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		_, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("making services: %w", err)
	}
	if err := b.until(ctx, "every service has its endpoint", func() (bool, error) {
		list, err := b.clients.Kube.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := 0
		for i := range list.Items {
			ready += len(list.Items[i].Endpoints)
		}
		return ready == slicedServices, nil
	}); err != nil {
		return err
	}
	ours, limit, err := b.sliceTimes(ctx, ns)
	if err != nil {
		return err
	}
	for _, p := range []float64{50, 99} {
		b.report.add(controllersTitle, row{fmt.Sprintf("readiness written → seen in the slice, %d services (limit: the pod's own event seen), p%.0f", slicedServices, p),
			millis(ours.at(p)), millis(limit.at(p)), times(ours.at(p), limit.at(p)) + " (aim 20 ms)"})
	}
	return b.removed(ctx, ns)
}

func (b *bench) sliceTimes(ctx context.Context, ns string) (ours, limit samples, err error) {
	slices, err := b.clients.Kube.DiscoveryV1().EndpointSlices(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	defer slices.Stop()
	seen, err := b.clients.Kube.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	defer seen.Stop()
	quiet := time.After(2 * time.Second) // both begin with all there is
	for settled := false; !settled; {
		select {
		case <-slices.ResultChan():
		case <-seen.ResultChan():
		case <-quiet:
			settled = true
		}
	}
	for i := range sliceChanges {
		status := corev1.ConditionFalse
		if i >= sliceChanges/2 {
			status = corev1.ConditionTrue
		}
		name := fmt.Sprintf("many-%06d", i%(sliceChanges/2)*5+1)
		began := time.Now()
		answered := make(chan error, 1)
		go func() {
			_, err := b.clients.Kube.CoreV1().Pods(ns).Patch(ctx, name, types.StrategicMergePatchType,
				fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":%q}]}}`, status), metav1.PatchOptions{}, "status")
			answered <- err
		}()
		var pod, slice time.Duration
		for pod == 0 || slice == 0 {
			select {
			case err := <-answered:
				if err != nil {
					return nil, nil, fmt.Errorf("changing a pod: %w", err)
				}
				answered = nil
			case _, open := <-seen.ResultChan():
				if !open {
					return nil, nil, errors.New("the watch of pods ended")
				}
				pod = time.Since(began)
			case _, open := <-slices.ResultChan():
				if !open {
					return nil, nil, errors.New("the watch of slices ended")
				}
				slice = time.Since(began)
			case <-time.After(10 * time.Second):
				return nil, nil, errors.New("a change did not reach its slice within 10 s")
			}
		}
		ours, limit = append(ours, slice), append(limit, pod)
	}
	return ours, limit, nil
}

// emptying measures how long a namespace with many objects takes to go, against deleting as many one by one by all clients.
func (b *bench) emptying(ctx context.Context) error {
	const ns, plain = "emptied", "plain"
	fill := func(ns string) error {
		if err := b.room(ctx, ns); err != nil {
			return err
		}
		_, err := many(ctx, emptied, func(ctx context.Context, _ int, key string) error { return b.fill(ctx, ns, key) })
		return err
	}
	if err := fill(ns); err != nil {
		return fmt.Errorf("filling a namespace: %w", err)
	}
	began := time.Now()
	if err := b.clients.Kube.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := b.until(ctx, "the namespace is gone", func() (bool, error) {
		_, err := b.clients.Kube.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	}); err != nil {
		return err
	}
	took := time.Since(began)
	if err := b.room(ctx, plain); err != nil {
		return err
	}
	maps := b.clients.Kube.CoreV1().ConfigMaps(plain)
	if _, err := many(ctx, emptied, func(ctx context.Context, _ int, key string) error {
		_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key}}, metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	limit, err := many(ctx, emptied, func(ctx context.Context, _ int, key string) error {
		return maps.Delete(ctx, key, metav1.DeleteOptions{})
	})
	if err != nil {
		return err
	}
	b.report.add(controllersTitle, row{fmt.Sprintf("a namespace with %d objects of 4 kinds, deleted → gone (limit: as many deletes by %d clients)", emptied, workers),
		millis(took), millis(limit), times(took, limit) + " (aim 5 s)"})
	return nil
}

// fill makes the object of a key, of one of four kinds.
func (b *bench) fill(ctx context.Context, ns, key string) (err error) {
	switch meta := (metav1.ObjectMeta{Name: key}); key[len(key)-1] {
	case '0':
		_, err = b.clients.Kube.AppsV1().Deployments(ns).Create(ctx, deployment(key, 0), metav1.CreateOptions{})
	case '1':
		_, err = b.clients.Kube.CoreV1().Services(ns).Create(ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
	case '2', '3', '4':
		_, err = b.clients.Kube.CoreV1().Secrets(ns).Create(ctx, &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{})
	default:
		_, err = b.clients.Kube.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{})
	}
	return err
}

// idling measures what the controller manager uses while nothing changes.
func (b *bench) idling(ctx context.Context) error {
	const ns = "idle"
	if err := b.room(ctx, ns); err != nil {
		return err
	}
	if _, err := many(ctx, idleSets, func(ctx context.Context, _ int, key string) error {
		_, err := b.clients.Kube.AppsV1().Deployments(ns).Create(ctx, deployment(key, idleReplicas), metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	if err := b.until(ctx, "all pods are there", func() (bool, error) {
		sets, err := b.clients.Kube.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		n := int32(0)
		for i := range sets.Items {
			n += sets.Items[i].Status.Replicas
		}
		return n == idleSets*idleReplicas, nil
	}); err != nil {
		return err
	}
	if err := b.placed(ctx, ns, idleSets*idleReplicas); err != nil {
		return err
	}
	pids, err := b.processes()
	if err != nil {
		return err
	}
	pid := pids["controller-manager"]
	select { // what was just made settles
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(idleFor):
	}
	after, err := cpu(pid)
	if err != nil {
		return err
	}
	rss, anon, err := resident(pid)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("the controller manager, idle over %d pods of %d Deployments: ", idleSets*idleReplicas, idleSets)
	b.report.add(controllersTitle, row{what + "part of a core", fmt.Sprintf("%.2f %%", 100*(after-before).Seconds()/idleFor.Seconds()), "aim: 1 %", ""},
		row{what + "resident MiB (anonymous)", fmt.Sprintf("%d (%d)", rss>>10, anon>>10), "aim: 250", ""})
	return nil
}
