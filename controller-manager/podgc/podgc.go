// Package podgc deletes pods that no kubelet will: those of nodes that are gone, finished ones beyond a number, those being
// deleted that never had a node, and those being deleted on nodes that people have declared out of service. It looks at all
// pods every so often, under one key.
package podgc

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
)

const (
	every      = 20 * time.Second
	quarantine = 40 * time.Second // how long a node must be gone before its pods are: it may be registering anew
)

// all is the one key.
var all = loop.Key{Name: "pods"}

type controller struct {
	t      loop.Tools
	keep   int
	pods   corelisters.PodLister
	nodes  corelisters.NodeLister
	absent map[string]time.Time // owned by the one worker: nodes that pods name and that are not there, and since when
}

// New returns the constructor for a number of finished pods to keep.
func New(keep int) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		core := t.Informers.Core().V1()
		c := &controller{t: t, keep: keep, pods: core.Pods().Lister(), nodes: core.Nodes().Lister(), absent: map[string]time.Time{}}
		return loop.Controller{
			Watches:   []loop.Watch{{Resource: "nodes", Wakes: loop.Func("a look at all pods, when one is gone", gone)}},
			Reads:     []string{"pods"},
			Reconcile: c.reconcile,
			Feed: func(ctx context.Context, wake func(loop.Key)) error {
				wake(all)
				<-ctx.Done()
				return ctx.Err()
			},
		}
	}
}

func gone(e loop.Event) []loop.Key {
	if e.New == nil {
		return []loop.Key{all}
	}
	return nil
}

func (c *controller) reconcile(ctx context.Context, _ loop.Key) (time.Duration, error) {
	pods, err := c.pods.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	list, err := c.nodes.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	nodes := make(map[string]*corev1.Node, len(list))
	for _, n := range list {
		nodes[n.Name] = n
	}
	now := time.Now()
	if err := c.missing(ctx, pods, nodes, now); err != nil {
		return 0, err
	}
	var errs []error
	for _, v := range decide(pods, nodes, c.absent, c.keep, now) {
		if err := c.delete(ctx, v, now); err != nil {
			errs = append(errs, err)
		}
	}
	return every, errors.Join(errs...)
}

// missing notes which nodes that pods name are gone: absent from the cache and, asked live, from the API.
func (c *controller) missing(ctx context.Context, pods []*corev1.Pod, nodes map[string]*corev1.Node, now time.Time) error {
	absent := map[string]time.Time{}
	for _, p := range pods {
		name := p.Spec.NodeName
		if name == "" || nodes[name] != nil {
			continue
		}
		if since, known := c.absent[name]; known {
			absent[name] = since
		} else if _, done := absent[name]; !done {
			absent[name] = now
		}
	}
	for name, since := range absent {
		if now.Sub(since) < quarantine {
			continue
		}
		_, err := c.t.Clients.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		switch {
		case err == nil:
			delete(absent, name) // the cache is behind
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("asking for node %s: %w", name, err)
		}
	}
	c.absent = absent
	return nil
}

// delete ends a pod that has no kubelet: at once, its status telling why.
func (c *controller) delete(ctx context.Context, v victim, now time.Time) error {
	p := v.pod
	pods := c.t.Clients.Kube.CoreV1().Pods(p.Namespace)
	if !pod.Terminal(p) {
		want := p.DeepCopy()
		want.Status.Phase = corev1.PodFailed
		if v.disrupted {
			pod.SetCondition(&want.Status, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", Message: "PodGC: " + v.why,
			}, now)
		}
		if _, err := loop.Commit(ctx, pods, p, want); err != nil {
			return ignoreGone(err)
		}
	}
	opts := metav1.NewPreconditionDeleteOptions(string(p.UID))
	none := int64(0)
	opts.GracePeriodSeconds = &none
	return ignoreGone(pods.Delete(ctx, p.Name, *opts))
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
