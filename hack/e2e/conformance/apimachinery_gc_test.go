package conformance

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (c *replicated) delete(name string, policy metav1.DeletionPropagation) {
	c.Helper()
	rc, err := c.client.Get(c.ctx, name, metav1.GetOptions{})
	c.must(err, "getting "+name)
	c.must(c.client.Delete(c.ctx, name, metav1.DeleteOptions{PropagationPolicy: &policy, Preconditions: metav1.NewUIDPreconditions(string(rc.UID))}), "deleting "+name)
}

// away waits until the controller is gone.
func (c *replicated) away(name string) {
	c.Helper()
	c.settles(name+" is gone", func() (bool, error) {
		_, err := c.client.Get(c.ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
}

// collected waits until the garbage collector, which deletes what has lost its owners, has come by: it has deleted something of that
// sort that was made after what the row did.
func (r *row) collected(ns string) {
	r.Helper()
	maps := r.kube.CoreV1().ConfigMaps(ns)
	owner, err := maps.Create(r.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	r.must(err, "creating an owner")
	_, err = maps.Create(r.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}}}, metav1.CreateOptions{})
	r.must(err, "creating what it owns")
	background := metav1.DeletePropagationBackground
	r.must(maps.Delete(r.ctx, "owner", metav1.DeleteOptions{PropagationPolicy: &background}), "deleting the owner")
	r.settles("what was owned is collected", func() (bool, error) {
		_, err := maps.Get(r.ctx, "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
}

// AM-037
func garbageOfDeployment(r *row) {
	d := r.rollouts()
	d.create(1)
	d.settles("it has a ReplicaSet", func() (bool, error) {
		list, err := d.sets.List(d.ctx, labelled(d.label))
		return err == nil && len(list.Items) == 1, err
	})
	background := metav1.DeletePropagationBackground
	r.must(d.client.Delete(r.ctx, "web", metav1.DeleteOptions{PropagationPolicy: &background}), "deleting the Deployment")
	d.settles("Deployment and ReplicaSet are gone", func() (bool, error) {
		sets, err := d.sets.List(d.ctx, labelled(d.label))
		if err != nil {
			return false, err
		}
		deployments, err := d.client.List(d.ctx, labelled(d.label))
		return err == nil && len(sets.Items)+len(deployments.Items) == 0, err
	})
}

// AM-038
func garbageOfController(r *row) {
	c := r.replicated()
	c.create("rc", 2)
	c.made("rc", 2)
	c.delete("rc", metav1.DeletePropagationBackground)
	c.made("rc", 0)
	c.away("rc")
}

// AM-039: deleted in the foreground, a controller is there until the last of its pods is gone.
func garbageBeforeController(r *row) {
	c := r.replicated()
	c.create("rc", 10)
	c.made("rc", 10)
	c.delete("rc", metav1.DeletePropagationForeground)
	c.settles("pods go before their controller, which goes", func() (bool, error) {
		rc, err := c.client.Get(c.ctx, "rc", metav1.GetOptions{})
		if err == nil {
			if rc.DeletionTimestamp == nil || len(rc.Finalizers) == 0 {
				c.Fatalf("the controller is not waiting for its pods: %s", asJSON(rc.ObjectMeta))
			}
			return false, nil
		}
		if !apierrors.IsNotFound(err) {
			return false, err
		}
		pods, err := c.pods.List(c.ctx, metav1.ListOptions{LabelSelector: "of=rc"})
		c.must(err, "listing pods")
		c.equal("pods that are left when the controller is gone", len(pods.Items), 0)
		return true, nil
	})
}

// AM-040: pods that own each other in a circle all go with one of them.
func garbageInCircle(r *row) {
	ns := r.namespace()
	pods := r.kube.CoreV1().Pods(ns)
	var made []*corev1.Pod
	for i := range 3 {
		p, err := pods.Create(r.ctx, application(fmt.Sprintf("pod-%d", i), "pause"), metav1.CreateOptions{})
		r.must(err, "creating a pod")
		made = append(made, p)
	}
	for i := range made {
		r.again("making a pod the owner of the next", func() error {
			next, err := pods.Get(r.ctx, made[(i+1)%3].Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			yes := true
			next.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: made[i].Name, UID: made[i].UID, Controller: &yes, BlockOwnerDeletion: &yes}}
			_, err = pods.Update(r.ctx, next, metav1.UpdateOptions{})
			return err
		})
	}
	foreground := metav1.DeletePropagationForeground
	r.must(pods.Delete(r.ctx, "pod-0", metav1.DeleteOptions{PropagationPolicy: &foreground}), "deleting one of the circle")
	r.settles("all are gone", func() (bool, error) {
		list, err := pods.List(r.ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return len(list.Items) == 0, fmt.Errorf("%d are left", len(list.Items))
	})
}

// AM-041: of two owners one goes and waits for its pods; those that have the other, too, stay with that.
func garbageOfTwoOwners(r *row) {
	c := r.replicated()
	c.create("going", 10)
	stays := c.create("staying", 0)
	half := map[string]bool{}
	for _, p := range c.made("going", 10)[:5] {
		half[p.Name] = true
		r.again("giving a pod another owner", func() error {
			pod, err := c.pods.Get(r.ctx, p.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			pod.OwnerReferences = append(pod.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ReplicationController", Name: "staying", UID: stays.UID})
			_, err = c.pods.Update(r.ctx, pod, metav1.UpdateOptions{})
			return err
		})
	}
	c.delete("going", metav1.DeletePropagationForeground)
	c.away("going")
	r.collected(c.ns)
	list, err := c.pods.List(r.ctx, metav1.ListOptions{LabelSelector: "of=going"})
	r.must(err, "listing pods")
	r.equal("pods left", len(list.Items), len(half))
	for _, p := range list.Items {
		if !half[p.Name] || p.DeletionTimestamp != nil || len(p.OwnerReferences) != 1 || p.OwnerReferences[0].UID != stays.UID {
			r.Fatalf("left is %s", asJSON(p.ObjectMeta))
		}
	}
}

// AM-042
func orphanOfDeployment(r *row) {
	d := r.rollouts()
	d.create(1)
	d.settles("it has a ReplicaSet", func() (bool, error) {
		list, err := d.sets.List(d.ctx, labelled(d.label))
		return err == nil && len(list.Items) == 1, err
	})
	orphan := metav1.DeletePropagationOrphan
	r.must(d.client.Delete(r.ctx, "web", metav1.DeleteOptions{PropagationPolicy: &orphan}), "deleting the Deployment")
	d.settles("the Deployment is gone", func() (bool, error) {
		_, err := d.client.Get(d.ctx, "web", metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
	r.collected(d.ns)
	list, err := d.sets.List(r.ctx, labelled(d.label))
	r.must(err, "listing ReplicaSets")
	r.equal("ReplicaSets left", len(list.Items), 1)
	r.equal("owners of the one", len(list.Items[0].OwnerReferences), 0)
	r.equal("that it is being deleted", list.Items[0].DeletionTimestamp != nil, false)
}

// AM-043
func orphansOfController(r *row) {
	c := r.replicated()
	c.create("rc", 10)
	c.made("rc", 10)
	c.delete("rc", metav1.DeletePropagationOrphan)
	c.away("rc")
	r.collected(c.ns)
	for _, p := range c.made("rc", 10) {
		if p.DeletionTimestamp != nil || len(p.OwnerReferences) > 0 {
			r.Fatalf("left is %s", asJSON(p.ObjectMeta))
		}
	}
}
