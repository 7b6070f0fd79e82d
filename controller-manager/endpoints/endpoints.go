//lint:file-ignore SA1019 Endpoints are deprecated for users; this room serves those who still read them.

// Package endpoints keeps the Endpoints object of each Service that selects pods: the older, flat form of EndpointSlices, for
// those who still read it. Endpoints that people make themselves, of Services without a selector, it leaves alone.
package endpoints

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/endpointslice/util"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

type controller struct {
	t         loop.Tools
	services  corelisters.ServiceLister
	backends  *podset.Services
	endpoints corelisters.EndpointsLister
	store     cache.Store
	wrote     *loop.Versions
	triggers  *util.TriggerTimeTracker

	mu   sync.Mutex
	gone map[loop.Key]bool // guarded by mu: Services whose end was seen, and whose Endpoints were not yet looked for
}

// New makes the controller. Changes of pods are held back for batch, to be worked off together.
func New(batch time.Duration) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller { return newController(t, podset.NewDelay(batch)) }
}

func newController(t loop.Tools, delay *podset.Delay) loop.Controller {
	core := t.Informers.Core().V1()
	c := &controller{
		t: t, wrote: loop.NewVersions(), triggers: util.NewTriggerTimeTracker(), gone: map[loop.Key]bool{},
		services: core.Services().Lister(), backends: podset.NewServices(t.Informers),
		endpoints: core.Endpoints().Lister(), store: core.Endpoints().Informer().GetStore(),
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "services", Wakes: loop.Func("itself", c.changed)},
			{Resource: "pods", Wakes: c.backends.Selecting(delay)},
			{Resource: "endpoints", Wakes: loop.Self}, // named like their Service
		},
		Reconcile: c.reconcile,
		Feed:      delay.Feed,
		Feeds:     "pods held back for a while",
	}
}

// changed wakes a Service, and notes its end: with it go the Endpoints of its name, whoever made them.
func (c *controller) changed(e loop.Event) []loop.Key {
	c.note(loop.KeyOf(e.Last()), e.New == nil)
	return c.backends.Changed().Keys(e)
}

func (c *controller) note(key loop.Key, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gone {
		c.gone[key] = true
	} else {
		delete(c.gone, key)
	}
}

// takeEnd says whether the end of a Service was seen, and forgets it.
func (c *controller) takeEnd(key loop.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := c.gone[key]
	delete(c.gone, key)
	return gone
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if !c.wrote.Seen(key, c.store.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	have, err := c.endpoints.Endpoints(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		have = nil
	} else if err != nil {
		return 0, err
	}
	client := c.t.Clients.Kube.CoreV1().Endpoints(key.Namespace)
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.triggers.DeleteService(key.Namespace, key.Name)
		return 0, c.remove(ctx, key, have)
	}
	if err != nil {
		return 0, err
	}
	pods, ours, err := c.backends.Behind(svc)
	if err != nil || !ours {
		return 0, err
	}
	since := c.triggers.ComputeEndpointLastChangeTriggerTime(key.Namespace, svc, pods)
	want, changed := next(svc, have, subsets(svc, pods), since)
	if !changed {
		return 0, nil
	}
	if have == nil {
		have, err = client.Create(ctx, want, metav1.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return 0, nil
		}
		if err != nil {
			c.complain(want, err, "FailedToCreateEndpoint", fmt.Sprintf("Failed to create endpoint for service %s/%s: %v", svc.Namespace, svc.Name, err))
			return 0, fmt.Errorf("creating endpoints: %w", err)
		}
	} else if have, err = loop.Commit(ctx, client, have, want); err != nil {
		c.complain(want, err, "FailedToUpdateEndpoint", fmt.Sprintf("Failed to update endpoint %s/%s: %v", svc.Namespace, svc.Name, err))
		return 0, err
	}
	c.wrote.Wrote(key, have.ResourceVersion)
	return 0, nil
}

// complain tells of a failure that looking again does not mend.
func (c *controller) complain(e *corev1.Endpoints, err error, reason, message string) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return
	}
	c.t.Recorder.Event(e, corev1.EventTypeWarning, reason, message)
}

// remove deletes the Endpoints of a Service that is not there: what we made, and what others did when the Service was seen to end.
func (c *controller) remove(ctx context.Context, key loop.Key, have *corev1.Endpoints) error {
	ended := c.takeEnd(key)
	if have == nil || have.Labels[managedByLabel] != managedBy && !ended {
		return nil
	}
	err := c.t.Clients.Kube.CoreV1().Endpoints(key.Namespace).Delete(ctx, have.Name, *metav1.NewPreconditionDeleteOptions(string(have.UID)))
	if err != nil && !apierrors.IsNotFound(err) {
		c.note(key, ended)
		return fmt.Errorf("deleting the endpoints of a service that is gone: %w", err)
	}
	return nil
}
