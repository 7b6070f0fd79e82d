package disruption

import (
	"context"
	"errors"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

// scales find how many pods the controllers of pods should have. Safe for concurrent use.
type scales struct {
	clients     *client.Clients
	deployments appslisters.DeploymentLister
	sets        appslisters.ReplicaSetLister
	stateful    appslisters.StatefulSetLister
	older       corelisters.ReplicationControllerLister

	mu    sync.Mutex
	known map[schema.GroupVersionKind]schema.GroupVersionResource // guarded by mu: kinds that have a scale
}

func newScales(t loop.Tools) *scales {
	apps := t.Informers.Apps().V1()
	return &scales{
		clients: t.Clients, deployments: apps.Deployments().Lister(), sets: apps.ReplicaSets().Lister(), stateful: apps.StatefulSets().Lister(),
		older: t.Informers.Core().V1().ReplicationControllers().Lister(), known: map[schema.GroupVersionKind]schema.GroupVersionResource{},
	}
}

// scaled is a controller with the number of pods that it should have; no UID: there is none.
type scaled struct {
	uid  types.UID
	pods int32
}

// noScale is a lasting fault: looking again soon shows nothing else.
type noScale struct{ error }

func lasting(err error) bool { return errors.As(err, &noScale{}) }

// expect adds up the scales of those who control the pods.
func (s *scales) expect(ctx context.Context, pods []*corev1.Pod) (expectation, error) {
	var e expectation
	seen, counted := map[types.UID]bool{}, map[types.UID]bool{}
	for _, p := range pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil {
			e.unmanaged++
			continue
		}
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		found, err := s.of(ctx, p.Namespace, ref)
		if err != nil {
			return expectation{}, err
		}
		if found.uid == "" {
			return expectation{}, noScale{fmt.Errorf("found no controllers for pod %q", p.Name)}
		}
		if !counted[found.uid] { // the sets of one Deployment
			counted[found.uid] = true
			e.pods += found.pods
		}
	}
	return e, nil
}

// of finds the scale of a controller: of what owns it, if that is a Deployment.
func (s *scales) of(ctx context.Context, namespace string, ref *metav1.OwnerReference) (scaled, error) {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	var o metav1.Object
	var err error
	switch gvk.GroupKind() {
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "ReplicaSet"}:
		var rs *appsv1.ReplicaSet
		if rs, err = s.sets.ReplicaSets(namespace).Get(ref.Name); err != nil || rs.UID != ref.UID {
			break
		}
		o = rs
		if up := metav1.GetControllerOfNoCopy(rs); up != nil && schema.FromAPIVersionAndKind(up.APIVersion, up.Kind).GroupKind() == (schema.GroupKind{Group: appsv1.GroupName, Kind: "Deployment"}) {
			ref = up
			o, err = get(s.deployments.Deployments(namespace).Get(ref.Name))
		}
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "StatefulSet"}:
		o, err = get(s.stateful.StatefulSets(namespace).Get(ref.Name))
	case schema.GroupKind{Kind: "ReplicationController"}:
		o, err = get(s.older.ReplicationControllers(namespace).Get(ref.Name))
	default:
		return s.live(ctx, namespace, gvk, ref)
	}
	if apierrors.IsNotFound(err) || err == nil && (o == nil || o.GetUID() != ref.UID) {
		if there, err := s.live(ctx, namespace, schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind), ref); err != nil || there.uid == "" {
			return scaled{}, err
		}
		return scaled{}, loop.ErrStale // pods may be seen before what made them
	}
	if err != nil {
		return scaled{}, err
	}
	return scaled{o.GetUID(), workloadOf(o).replicas}, nil
}

// get makes no object of a nil pointer.
func get[T metav1.Object](o T, err error) (metav1.Object, error) {
	if err != nil {
		return nil, err
	}
	return o, nil
}

// live reads the subresource scale of a controller of any kind.
func (s *scales) live(ctx context.Context, namespace string, gvk schema.GroupVersionKind, ref *metav1.OwnerReference) (scaled, error) {
	resource, err := s.resource(ctx, gvk)
	if err != nil {
		return scaled{}, err
	}
	o, err := s.clients.Dynamic.Resource(resource).Namespace(namespace).Get(ctx, ref.Name, metav1.GetOptions{}, "scale")
	if apierrors.IsNotFound(err) { // the object, or its kind is served otherwise now
		s.mu.Lock()
		delete(s.known, gvk)
		s.mu.Unlock()
		return scaled{}, nil
	}
	if err != nil {
		return scaled{}, fmt.Errorf("reading the scale of %s %s: %w", resource.Resource, ref.Name, err)
	}
	if o.GetUID() != ref.UID {
		return scaled{}, nil
	}
	n, _, err := unstructured.NestedInt64(o.Object, "spec", "replicas")
	if err != nil {
		return scaled{}, fmt.Errorf("reading the scale of %s %s: %w", resource.Resource, ref.Name, err)
	}
	return scaled{ref.UID, int32(n)}, nil
}

// resource finds what a kind is called in paths, if it has a scale.
func (s *scales) resource(ctx context.Context, gvk schema.GroupVersionKind) (schema.GroupVersionResource, error) {
	s.mu.Lock()
	known, ok := s.known[gvk]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	server := discovery.ToDiscoveryInterfaceWithContext(s.clients.Kube.Discovery())
	list, err := server.ServerResourcesForGroupVersionWithContext(ctx, gvk.GroupVersion().String())
	if apierrors.IsNotFound(err) {
		return known, noScale{fmt.Errorf("no matches for kind %q in version %q", gvk.Kind, gvk.GroupVersion())}
	}
	if err != nil {
		return known, fmt.Errorf("discovering what %s serves: %w", gvk.GroupVersion(), err)
	}
	plural, has := "", map[string]bool{}
	for _, r := range list.APIResources {
		has[r.Name] = true
		if r.Kind == gvk.Kind && plural == "" {
			plural = r.Name
		}
	}
	if plural == "" {
		return known, noScale{fmt.Errorf("no matches for kind %q in version %q", gvk.Kind, gvk.GroupVersion())}
	}
	known = gvk.GroupVersion().WithResource(plural)
	if !has[plural+"/scale"] {
		return known, noScale{fmt.Errorf("%s does not implement the scale subresource", known.GroupResource())}
	}
	s.mu.Lock()
	s.known[gvk] = known
	s.mu.Unlock()
	return known, nil
}

// workload is what counts of the kinds that we watch.
type workload struct {
	replicas int32
	labels   map[string]string // of its pods
	owner    types.UID
}

func workloadOf(o metav1.Object) workload {
	w := workload{owner: ownerOf(o)}
	switch o := o.(type) {
	case *appsv1.Deployment:
		w.replicas, w.labels = ptr.Deref(o.Spec.Replicas, 1), o.Spec.Template.Labels
	case *appsv1.ReplicaSet:
		w.replicas, w.labels = ptr.Deref(o.Spec.Replicas, 1), o.Spec.Template.Labels
	case *appsv1.StatefulSet:
		w.replicas, w.labels = ptr.Deref(o.Spec.Replicas, 1), o.Spec.Template.Labels
	case *corev1.ReplicationController:
		w.replicas = ptr.Deref(o.Spec.Replicas, 1)
		if o.Spec.Template != nil {
			w.labels = o.Spec.Template.Labels
		}
	}
	return w
}

func ownerOf(o metav1.Object) types.UID {
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return ref.UID
	}
	return ""
}
