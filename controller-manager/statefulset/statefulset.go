// Package statefulset keeps for a StatefulSet a pod for each ordinal, each with a name, a host name and claims of its own that
// outlive it, makes and ends them in order or at once as its policy says, and leads them from one template to the next. It is
// called by the loop; it reads StatefulSets, pods, claims and revisions from caches and writes pods, claims (made from templates,
// and their owners), revisions and the set's status, never its spec. The claims themselves are deleted by the garbage collector,
// which goes by the owners that are set here.
//
// What always holds: a pod is made only when the API has none of its name, so there are never two; a pod that is on its way out,
// or lost with its node, is waited for; nothing is decided on a cache that is behind our own writes. A pod that is not ready and of
// a template that has been superseded is replaced without being waited for, so a bad template is mended by the next good one; a
// healthy pod is never ended out of order. decide (reconcile.go) is pure.
package statefulset

import (
	"context"
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/controller-manager/revisions"
	"pilothouse.dev/pkg/pod"
)

var kind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

type controller struct {
	t       loop.Tools
	sets    appslisters.StatefulSetLister
	pods    podset.Reader
	byName  corelisters.PodLister
	claims  corelisters.PersistentVolumeClaimLister
	history *revisions.History
	ledger  *podset.Ledger // pods that we made or deleted
	metrics *metrics
	holds   *holds

	setStore, claimStore             cache.Store
	wroteSet, wrotePods, wroteClaims *loop.Versions // by set
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	core, sets := t.Informers.Core().V1(), t.Informers.Apps().V1().StatefulSets()
	c := &controller{
		t: t, sets: sets.Lister(), setStore: sets.Informer().GetStore(),
		pods: podset.NewReader(t.Informers), byName: core.Pods().Lister(),
		claims: core.PersistentVolumeClaims().Lister(), claimStore: core.PersistentVolumeClaims().Informer().GetStore(),
		history: revisions.New(t), ledger: podset.NewLedger(), metrics: newMetrics(t.Metrics),
		holds:    newHolds(),
		wroteSet: loop.NewVersions(), wrotePods: loop.NewVersions(), wroteClaims: loop.NewVersions(),
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "statefulsets.apps", Wakes: loop.Self},
			{Resource: "pods", Wakes: loop.Any(loop.Owner("StatefulSet"), loop.Func("the StatefulSet that it is named by", c.namesake))},
			{Resource: "controllerrevisions.apps", Wakes: loop.Owner("StatefulSet")},
			{Resource: "persistentvolumeclaims", Wakes: loop.Func("StatefulSets that it is a claim of, when it is gone or its owners changed", c.claimants)},
		},
		Reconcile: c.reconcile,
	}
}

// namesake is the StatefulSet that a pod would belong to by its name: it may adopt the pod, or waits for the name.
func (c *controller) namesake(e loop.Event) []loop.Key {
	o := e.Last()
	name, _, ok := split(o.GetName())
	if !ok {
		return nil
	}
	if _, err := c.sets.StatefulSets(o.GetNamespace()).Get(name); err != nil {
		return nil
	}
	return []loop.Key{{Namespace: o.GetNamespace(), Name: name}}
}

// claimants are the StatefulSets of which a claim is, by its name.
func (c *controller) claimants(e loop.Event) []loop.Key {
	if e.Old == nil || e.New != nil && equality.Semantic.DeepEqual(e.Old.GetOwnerReferences(), e.New.GetOwnerReferences()) {
		return nil
	}
	sets, err := c.sets.StatefulSets(e.Last().GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, set := range sets {
		if claimOf(set, e.Last().GetName()) {
			keys = append(keys, loop.KeyOf(set))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	set, err := c.sets.StatefulSets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.behind(key) // forgets what was written, once that is seen
		c.ledger.Forget(key)
		c.metrics.forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || selector.Empty() {
		return 0, nil // the API server refuses these
	}
	if c.behind(key) {
		return 0, loop.ErrStale
	}
	pods, deleted, err := c.podsOf(ctx, set, selector)
	if err != nil {
		return 0, err
	}
	revs, err := c.history.Of(ctx, c.claimer(set), selector)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	if set.DeletionTimestamp != nil { // the garbage collector does the rest
		status, again := nextStatus(set, pods, deleted, set.Status.CurrentRevision, set.Status.UpdateRevision, now)
		return again, c.say(ctx, set, status)
	}
	update, revs, err := c.history.Sync(ctx, revisions.Wish{
		Owner: set, Kind: kind, Template: &set.Spec.Template, HashLabel: hashLabel, Collisions: set.Status.CollisionCount,
	}, revs)
	if errors.Is(err, revisions.ErrTaken) {
		return 0, c.say(ctx, set, collided(set)) // which wakes us again
	}
	if err != nil {
		return 0, err
	}
	s := state{set: set, pods: pods, deleted: deleted, now: now, held: c.held(set, pods, now), update: revision{update.Name, &set.Spec.Template}}
	if s.current, err = currentOf(set, revs, s.update); err != nil {
		return 0, err
	}
	if err := c.surroundings(&s); err != nil {
		return 0, err
	}
	p := decide(s)
	c.metrics.show(set, p)
	done, failed := c.apply(ctx, set, p)
	status, again := nextStatus(set, append(pods, done.created...), done.gone(deleted), s.current.name, s.update.name, now)
	if err := c.say(ctx, set, status); err != nil {
		return 0, errors.Join(failed, err)
	}
	if failed != nil {
		return 0, failed
	}
	if p.again > 0 && (again == 0 || p.again < again) {
		again = p.again
	}
	return again, c.trim(ctx, set, pods, revs, status)
}

// behind says whether a cache does not show yet what was written for the set: itself, its pods, its claims. The revisions' history
// asks for itself.
func (c *controller) behind(key loop.Key) bool {
	set := c.wroteSet.Seen(key, c.setStore.LastStoreSyncResourceVersion())
	pods := c.wrotePods.Seen(key, c.pods.Version())
	claims := c.wroteClaims.Seen(key, c.claimStore.LastStoreSyncResourceVersion())
	return !set || !pods || !claims
}

// fallen is the key of a pod among those that have failed.
func fallen(set *appsv1.StatefulSet, p *corev1.Pod) string { return string(set.UID) + "/" + p.Name }

// held says how long pods that have failed are to lie yet.
func (c *controller) held(set *appsv1.StatefulSet, pods []*corev1.Pod, now time.Time) map[string]time.Duration {
	held := map[string]time.Duration{}
	for _, p := range pods {
		if pod.Terminal(p) {
			held[p.Name] = c.holds.left(fallen(set, p), now)
		}
	}
	return held
}

// podsOf are the set's pods, after adoption and release, and which of them are deleted though the cache does not show it yet.
func (c *controller) podsOf(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) ([]*corev1.Pod, map[types.UID]bool, error) {
	key := loop.KeyOf(set)
	version := c.pods.Version() // before listing: the list is at least that new
	all, err := c.pods.Candidates(set)
	if err != nil {
		return nil, nil, err
	}
	unseen := c.ledger.Unseen(key, all, version)
	if unseen.Creating > 0 {
		return nil, nil, loop.ErrStale
	}
	var named []*corev1.Pod
	for _, p := range all {
		if _, ok := ordinalOf(set, p); ok {
			named = append(named, p)
		}
	}
	pods, err := podset.Claim(ctx, c.claimer(set), selector, named)
	if err != nil {
		return nil, nil, err
	}
	if !c.wrotePods.Seen(key, version) { // adopted or released: look again when the cache shows it
		return nil, nil, loop.ErrStale
	}
	return pods, unseen.Deleting, nil
}

func (c *controller) claimer(set *appsv1.StatefulSet) podset.Claimer {
	return podset.Claimer{
		Owner: set, Kind: kind,
		Live: func(ctx context.Context) (metav1.Object, error) {
			return c.t.Clients.Kube.AppsV1().StatefulSets(set.Namespace).Get(ctx, set.Name, metav1.GetOptions{})
		},
		Patch: func(ctx context.Context, name string, patch []byte) error {
			got, err := c.t.Clients.Kube.CoreV1().Pods(set.Namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			if err == nil {
				c.wrotePods.Wrote(loop.KeyOf(set), got.ResourceVersion)
			}
			return err
		},
	}
}

// surroundings completes what decide must know: the claims, and who else has the names of pods that are not there.
func (c *controller) surroundings(s *state) error {
	set := s.set
	s.claims, s.taken = map[string]*corev1.PersistentVolumeClaim{}, map[string]bool{}
	for _, p := range s.pods {
		n, _ := ordinalOf(set, p)
		if err := c.addClaims(s, n); err != nil {
			return err
		}
	}
	slots, _ := sorted(set, s.pods)
	for _, at := range slots {
		if at.pod != nil {
			continue
		}
		n := start(set) + at.index
		if err := c.addClaims(s, n); err != nil {
			return err
		}
		name := podName(set, n)
		_, err := c.byName.Pods(set.Namespace).Get(name)
		if err == nil {
			s.taken[name] = true
		} else if !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func (c *controller) addClaims(s *state, ordinal int) error {
	for i := range s.set.Spec.VolumeClaimTemplates {
		claim, err := c.claims.PersistentVolumeClaims(s.set.Namespace).Get(claimName(s.set, i, ordinal))
		if err == nil {
			s.claims[claim.Name] = claim
		} else if !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
