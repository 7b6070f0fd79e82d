package main

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// settle gives the last wishes and waits until they are fulfilled.
func (c *chaos) settle() {
	c.Helper()
	for _, ns := range c.doomed {
		if err := c.kube.CoreV1().Namespaces().Delete(c.Context(), ns, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			c.Fatal(err)
		}
	}
	const long = 3 * time.Minute // what failed often is tried again after a minute
	for _, wish := range []struct {
		what string
		ok   func() error
	}{
		{"the deployments to be as asked for", c.deploymentsRight},
		{"the stateful sets to be as asked for", c.statefulSetsRight},
		{"the jobs to be complete, and rightly counted", c.jobsRight},
		{"the namespaces to be gone", c.namespacesGone},
		{"nothing to be without its owner", c.noOrphans},
	} {
		began := time.Now()
		c.within(long, wish.what, wish.ok)
		c.Logf("waited %v for %s", time.Since(began).Round(time.Millisecond), wish.what)
	}
}

func (c *chaos) namespacesGone() error {
	for _, ns := range c.doomed {
		if _, err := c.kube.CoreV1().Namespaces().Get(c.Context(), ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace %s: %v", ns, err)
		}
	}
	return nil
}

func (c *chaos) deploymentsRight() error {
	sets, err := c.kube.AppsV1().Deployments(c.ns).List(c.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range sets.Items {
		d := &sets.Items[i]
		want, s := *d.Spec.Replicas, d.Status
		if s.ObservedGeneration != d.Generation || s.Replicas != want || s.UpdatedReplicas != want || s.AvailableReplicas != want {
			return fmt.Errorf("deployment %s of %d: %+v", d.Name, want, s)
		}
		replicaSets, err := c.kube.AppsV1().ReplicaSets(c.ns).List(c.Context(), metav1.ListOptions{LabelSelector: "set=" + d.Name})
		if err != nil {
			return err
		}
		n := int32(0)
		templates := map[string]bool{}
		for j := range replicaSets.Items {
			rs := &replicaSets.Items[j]
			n += rs.Status.Replicas
			churn := rs.Spec.Template.Annotations["churn"]
			if templates[churn] {
				return fmt.Errorf("deployment %s has two replica sets of one template", d.Name)
			}
			templates[churn] = true
		}
		pods, err := c.living("set=" + d.Name)
		if err != nil {
			return err
		}
		if n != want || len(pods) != int(want) {
			return fmt.Errorf("deployment %s of %d has %d replicas and %d pods", d.Name, want, n, len(pods))
		}
	}
	return nil
}

// living are the pods that a selector selects, those that end among them.
func (c *chaos) living(selector string) ([]corev1.Pod, error) {
	list, err := c.kube.CoreV1().Pods(c.ns).List(c.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (c *chaos) statefulSetsRight() error {
	sets, err := c.kube.AppsV1().StatefulSets(c.ns).List(c.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range sets.Items {
		s := &sets.Items[i]
		want := *s.Spec.Replicas
		if st := s.Status; st.ObservedGeneration != s.Generation || st.Replicas != want || st.ReadyReplicas != want || st.UpdatedReplicas != want || st.CurrentRevision != st.UpdateRevision {
			return fmt.Errorf("stateful set %s of %d: %+v", s.Name, want, st)
		}
		pods, err := c.living("set=" + s.Name)
		if err != nil {
			return err
		}
		var names, wanted []string
		for j := range pods {
			names = append(names, pods[j].Name)
			if r := pods[j].Labels[appsv1.StatefulSetRevisionLabel]; r != s.Status.UpdateRevision {
				return fmt.Errorf("pod %s is of revision %s, want %s", pods[j].Name, r, s.Status.UpdateRevision)
			}
		}
		for j := range want {
			wanted = append(wanted, fmt.Sprintf("%s-%d", s.Name, j))
		}
		slices.Sort(names)
		if !slices.Equal(names, wanted) {
			return fmt.Errorf("stateful set %s has the pods %v, want %v", s.Name, names, wanted)
		}
	}
	return nil
}

// jobsRight compares what jobs say with what their pods were played to do.
func (c *chaos) jobsRight() error {
	jobs, err := c.kube.BatchV1().Jobs(c.ns).List(c.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(jobs.Items) != c.jobs {
		return fmt.Errorf("%d jobs, want %d", len(jobs.Items), c.jobs)
	}
	for i := range jobs.Items {
		j := &jobs.Items[i]
		f, s := c.fates[j.UID], j.Status
		complete := slices.ContainsFunc(s.Conditions, func(c batchv1.JobCondition) bool {
			return c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue
		})
		if !complete || s.Succeeded != jobPods || f.succeeded != jobPods || s.Failed != f.failed || f.flaky != (f.failed == 1) || s.Active != 0 || s.UncountedTerminatedPods != nil && len(s.UncountedTerminatedPods.Succeeded)+len(s.UncountedTerminatedPods.Failed) > 0 {
			return fmt.Errorf("job %s says %+v, and its pods were %+v", j.Name, s, *f)
		}
	}
	pods, err := c.living("batch.kubernetes.io/job-name")
	if err != nil {
		return err
	}
	for i := range pods {
		if slices.Contains(pods[i].Finalizers, batchv1.JobTrackingFinalizer) {
			return fmt.Errorf("pod %s still has the job's finalizer", pods[i].Name)
		}
	}
	return nil
}

// noOrphans looks for objects whose controller is not there.
func (c *chaos) noOrphans() error {
	there := map[types.UID]bool{}
	var owned []metav1.Object
	apps, ctx, all := c.kube.AppsV1(), c.Context(), metav1.ListOptions{}
	deployments, err := apps.Deployments("").List(ctx, all)
	if err != nil {
		return err
	}
	sets, err := apps.StatefulSets("").List(ctx, all)
	if err != nil {
		return err
	}
	jobs, err := c.kube.BatchV1().Jobs("").List(ctx, all)
	if err != nil {
		return err
	}
	replicaSets, err := apps.ReplicaSets("").List(ctx, all)
	if err != nil {
		return err
	}
	revisions, err := apps.ControllerRevisions("").List(ctx, all)
	if err != nil {
		return err
	}
	pods, err := c.kube.CoreV1().Pods("").List(ctx, all)
	if err != nil {
		return err
	}
	for i := range deployments.Items {
		there[deployments.Items[i].UID] = true
	}
	for i := range sets.Items {
		there[sets.Items[i].UID] = true
	}
	for i := range jobs.Items {
		there[jobs.Items[i].UID] = true
	}
	for i := range replicaSets.Items {
		there[replicaSets.Items[i].UID] = true
		owned = append(owned, &replicaSets.Items[i])
	}
	for i := range revisions.Items {
		owned = append(owned, &revisions.Items[i])
	}
	for i := range pods.Items {
		owned = append(owned, &pods.Items[i])
	}
	for _, o := range owned {
		if ref := metav1.GetControllerOf(o); ref == nil || !there[ref.UID] {
			return fmt.Errorf("%T %s/%s has no owner (%v)", o, o.GetNamespace(), o.GetName(), ref)
		}
	}
	return nil
}
