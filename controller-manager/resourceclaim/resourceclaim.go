// Package resourceclaim looks after the claims of pods to devices
// (https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/): it makes the claims that pods ask for by
// templates and writes their names to the pods; it takes pods that have ended out of a claim's users, gives back what nobody uses,
// and deletes the claims it made once their pod has ended. It is called by the loop; it allocates nothing, which is the scheduler's.
//
// What always holds: for one entry of one pod there is one claim, found again by owner and annotation when the pod does not name it
// yet; a pod that the cache does not know is asked for live before anything is taken from it.
package resourceclaim

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
)

// Names of indexes: of pods by the claims they name, of claims by the UID of the pod they were made for.
const (
	byClaim = "resourceclaim"
	byPod   = "pod"
)

// Keys are of pods or of claims; neither name can hold a colon.
const (
	podKey   = "pod:"
	claimKey = "claim:"
)

type controller struct {
	t         loop.Tools
	pods      corelisters.PodLister
	podStore  cache.Indexer
	claims    resourcelisters.ResourceClaimLister
	store     cache.Indexer
	templates resourcelisters.ResourceClaimTemplateLister
	made      *loop.Versions // claims made, by pod
	named     *loop.Versions // pods told of them
	creates   *prometheus.CounterVec
	numbers   *tally
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	pods, v1 := t.Informers.Core().V1().Pods(), t.Informers.Resource().V1()
	c := &controller{
		t: t, pods: pods.Lister(), podStore: pods.Informer().GetIndexer(), claims: v1.ResourceClaims().Lister(), store: v1.ResourceClaims().Informer().GetIndexer(),
		templates: v1.ResourceClaimTemplates().Lister(), made: loop.NewVersions(), named: loop.NewVersions(),
		creates: t.Metrics.Counter("dynamic_resource_allocation_resourceclaim_creates_total", "Claims that were to be made of templates, by what came of it and whether they are for administrators.", "status", "admin_access"),
		numbers: newTally(t.Metrics.Gauge("dynamic_resource_allocation_resource_claims", "Claims there are, by whether they are allocated, for administrators, and what they were made of.", "allocated", "admin_access", "source")),
	}
	index(pods.Informer(), byClaim, func(o any) []string { return named(o.(*corev1.Pod)) })
	index(v1.ResourceClaims().Informer(), byPod, func(o any) []string {
		if ref := owner(o.(*resourcev1.ResourceClaim)); ref != nil {
			return []string{string(ref.UID)}
		}
		return nil
	})
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "pods", Wakes: loop.Func("itself and its claims", c.ofPod)},
			{Resource: "resourceclaims.resource.k8s.io", Wakes: loop.Func("itself and the pods that use it", c.ofClaim)},
			{Resource: "resourceclaimtemplates.resource.k8s.io", Wakes: loop.Func("pods that wait for it", c.ofTemplate)},
		},
		Reconcile: c.reconcile,
	}
}

// index adds one to an informer that has not begun; one that has is a broken table.
func index(inf cache.SharedIndexInformer, name string, fn func(any) []string) {
	err := inf.AddIndexers(cache.Indexers{name: func(o any) ([]string, error) { return fn(o), nil }})
	if err != nil {
		panic("indexing by " + name + ": " + err.Error())
	}
}

// named are the claims a pod names, by namespace and name.
func named(p *corev1.Pod) (names []string) {
	for i := range p.Spec.ResourceClaims {
		if name, _ := nameOf(p, &p.Spec.ResourceClaims[i]); name != "" {
			names = append(names, p.Namespace+"/"+name)
		}
	}
	return names
}

func (c *controller) ofPod(e loop.Event) (keys []loop.Key) {
	p := e.Last().(*corev1.Pod)
	if len(p.Spec.ResourceClaims) == 0 {
		return nil
	}
	if e.New != nil && p.DeletionTimestamp == nil && !pod.Terminal(p) {
		return []loop.Key{{Namespace: p.Namespace, Name: podKey + p.Name}}
	}
	for i := range p.Spec.ResourceClaims {
		if name, _ := nameOf(p, &p.Spec.ResourceClaims[i]); name != "" {
			keys = append(keys, loop.Key{Namespace: p.Namespace, Name: claimKey + name})
		}
	}
	mine, err := c.store.ByIndex(byPod, string(p.UID)) // among them what it was not told of yet
	if err != nil {
		return keys // the index is there since New
	}
	for _, o := range mine {
		keys = append(keys, loop.Key{Namespace: p.Namespace, Name: claimKey + o.(*resourcev1.ResourceClaim).Name})
	}
	return keys
}

func (c *controller) ofClaim(e loop.Event) []loop.Key {
	claim := e.Last().(*resourcev1.ResourceClaim)
	keys := []loop.Key{{Namespace: claim.Namespace, Name: claimKey + claim.Name}}
	if ref := owner(claim); ref != nil {
		keys = append(keys, loop.Key{Namespace: claim.Namespace, Name: podKey + ref.Name})
	}
	users, err := c.podStore.ByIndex(byClaim, claim.Namespace+"/"+claim.Name)
	if err != nil {
		return keys // the index is there since New
	}
	for _, o := range users {
		keys = append(keys, loop.Key{Namespace: claim.Namespace, Name: podKey + o.(*corev1.Pod).Name})
	}
	return keys
}

func (c *controller) ofTemplate(e loop.Event) (keys []loop.Key) {
	if e.New == nil {
		return nil
	}
	all, err := c.pods.Pods(e.New.GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil // a lister of a cache does not fail
	}
	for _, p := range all {
		for i := range p.Spec.ResourceClaims {
			t := p.Spec.ResourceClaims[i].ResourceClaimTemplateName
			if name, said := nameOf(p, &p.Spec.ResourceClaims[i]); t != nil && *t == e.New.GetName() && name == "" && !said {
				keys = append(keys, loop.Key{Namespace: p.Namespace, Name: podKey + p.Name})
			}
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if name, ok := strings.CutPrefix(key.Name, podKey); ok {
		return 0, c.pod(ctx, key, name)
	}
	return 0, c.claim(ctx, loop.Key{Namespace: key.Namespace, Name: strings.TrimPrefix(key.Name, claimKey)})
}

// pod sees to it that a pod has its claims, and is among their users when it was put on a node without the scheduler.
func (c *controller) pod(ctx context.Context, key loop.Key, name string) error {
	made, told := c.made.Seen(key, c.store.LastStoreSyncResourceVersion()), c.named.Seen(key, c.podStore.LastStoreSyncResourceVersion())
	p, err := c.pods.Pods(key.Namespace).Get(name)
	if apierrors.IsNotFound(err) || err == nil && (p.DeletionTimestamp != nil || pod.Terminal(p)) {
		return nil
	}
	if err != nil {
		return err
	}
	if !made || !told {
		return loop.ErrStale
	}
	var names []corev1.PodResourceClaimStatus
	for i := range p.Spec.ResourceClaims {
		entry := &p.Spec.ResourceClaims[i]
		name, err := c.provide(ctx, key, p, entry)
		if err != nil {
			c.t.Recorder.Eventf(p, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", entry.Name, err)
			return fmt.Errorf("PodResourceClaim %s: %w", entry.Name, err)
		}
		if name != "" {
			names = append(names, corev1.PodResourceClaimStatus{Name: entry.Name, ResourceClaimName: &name})
		}
	}
	if len(names) > 0 {
		got, err := c.tell(ctx, p, names)
		if err != nil {
			return fmt.Errorf("telling pod %s its claims: %w", p.Name, err)
		}
		c.named.Wrote(key, got.ResourceVersion)
		return nil // the pod wakes again with them
	}
	if p.Spec.NodeName == "" {
		return nil
	}
	for i := range p.Spec.ResourceClaims {
		if err := c.reserve(ctx, p, &p.Spec.ResourceClaims[i]); err != nil {
			return err
		}
	}
	return nil
}

// provide sees to one entry; the name is that of a claim which the pod must be told of.
func (c *controller) provide(ctx context.Context, key loop.Key, p *corev1.Pod, entry *corev1.PodResourceClaim) (name string, err error) {
	if entry.ResourceClaimTemplateName == nil {
		return "", nil
	}
	name, said := nameOf(p, entry)
	if said && name == "" {
		return "", nil // it needs none
	}
	if name != "" {
		claim, err := c.find(ctx, p.Namespace, name)
		if err == nil {
			return "", madeFor(claim, p)
		}
		if !apierrors.IsNotFound(err) {
			return "", err
		}
	}
	mine, err := c.store.ByIndex(byPod, string(p.UID))
	if err != nil {
		return "", err
	}
	for _, o := range mine {
		if claim := o.(*resourcev1.ResourceClaim); claim.Annotations[resourcev1.PodResourceClaimAnnotation] == entry.Name && claim.DeletionTimestamp == nil {
			return claim.Name, nil
		}
	}
	template, err := c.templates.ResourceClaimTemplates(p.Namespace).Get(*entry.ResourceClaimTemplateName)
	if err != nil {
		return "", fmt.Errorf("resource claim template %q: %w", *entry.ResourceClaimTemplateName, err)
	}
	want := fromTemplate(template, p, entry.Name)
	got, err := c.t.Clients.Kube.ResourceV1().ResourceClaims(p.Namespace).Create(ctx, want, metav1.CreateOptions{})
	status := "success"
	if err != nil {
		status = "failure"
	}
	c.creates.WithLabelValues(status, fmt.Sprint(forAdmins(&want.Spec))).Inc()
	if err != nil {
		return "", fmt.Errorf("create ResourceClaim: %w", err)
	}
	c.made.Wrote(key, got.ResourceVersion)
	return got.Name, nil
}

// find reads a claim, from the API where the cache has none.
func (c *controller) find(ctx context.Context, namespace, name string) (*resourcev1.ResourceClaim, error) {
	claim, err := c.claims.ResourceClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return c.t.Clients.Kube.ResourceV1().ResourceClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return claim, err
}

// reserve makes a pod on a node a user of a claim that has been allocated to it.
func (c *controller) reserve(ctx context.Context, p *corev1.Pod, entry *corev1.PodResourceClaim) error {
	name, _ := nameOf(p, entry)
	if name == "" {
		return nil
	}
	claim, err := c.claims.ResourceClaims(p.Namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	want := reserved(claim, p)
	if want == nil {
		return nil
	}
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.ResourceV1().ResourceClaims(p.Namespace), claim, want); err != nil {
		return fmt.Errorf("reserving a claim for pod %s: %w", p.Name, err)
	}
	return nil
}

// claim sees to it that a claim's users are those that are left, that what nobody uses is given back, and that it goes with the pod it
// was made for.
func (c *controller) claim(ctx context.Context, key loop.Key) error {
	have, err := c.claims.ResourceClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.numbers.set(key, "")
		return nil
	}
	if err != nil {
		return err
	}
	c.numbers.set(key, class(have))
	ended := map[string]bool{} // users, by UID
	for _, r := range have.Status.ReservedFor {
		if r.APIGroup != "" || r.Resource != "pods" {
			continue // not ours to judge
		}
		if ended[string(r.UID)], err = c.ended(ctx, key.Namespace, r.Name, string(r.UID)); err != nil {
			return err
		}
	}
	client := c.t.Clients.Kube.ResourceV1().ResourceClaims(key.Namespace)
	now, err := loop.Commit(ctx, client, have, released(have, ended))
	if err != nil {
		return err
	}
	if now, err = loop.Commit(ctx, client, now, freed(now, have)); err != nil {
		return err
	}
	ref := owner(now)
	if ref == nil || now.DeletionTimestamp != nil || len(now.Status.ReservedFor) > 0 {
		return nil
	}
	over, err := c.ended(ctx, key.Namespace, ref.Name, string(ref.UID))
	if err != nil || !over {
		return err
	}
	err = client.Delete(ctx, key.Name, *metav1.NewPreconditionDeleteOptions(string(now.UID)))
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting the claim of a pod that has ended: %w", err)
	}
	return nil
}

// ended says whether a pod is gone or will use nothing any more.
func (c *controller) ended(ctx context.Context, namespace, name, uid string) (bool, error) {
	p, err := c.pods.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) || err == nil && string(p.UID) != uid { // perhaps only not seen yet
		p, err = c.t.Clients.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) || err == nil && string(p.UID) != uid {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for the user of a claim: %w", err)
	}
	return over(p), nil
}

// tally counts claims by their classes. Safe for concurrent use.
type tally struct {
	gauge *prometheus.GaugeVec

	mu   sync.Mutex
	seen map[loop.Key]string // guarded by mu: the class a claim is counted in
}

func newTally(g *prometheus.GaugeVec) *tally {
	g.Reset()
	return &tally{gauge: g, seen: map[loop.Key]string{}}
}

// set counts a claim in a class, and in none when that is empty.
func (t *tally) set(key loop.Key, class string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.seen[key]
	if was == class {
		return
	}
	if was != "" {
		t.gauge.WithLabelValues(strings.Split(was, ",")...).Dec()
	}
	if delete(t.seen, key); class != "" {
		t.gauge.WithLabelValues(strings.Split(class, ",")...).Inc()
		t.seen[key] = class
	}
}

// class is a claim's in the tally: allocated, for administrators, what it was made of.
func class(c *resourcev1.ResourceClaim) string {
	source := ""
	switch {
	case c.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true":
		source = "extended_resource"
	case c.Annotations[resourcev1.PodResourceClaimAnnotation] != "":
		source = "resource_claim_template"
	}
	return fmt.Sprintf("%t,%t,%s", c.Status.Allocation != nil, forAdmins(&c.Spec), source)
}

// annotated are a template's annotations and the one by which a claim is found again.
func annotated(have map[string]string, entry string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, have)
	out[resourcev1.PodResourceClaimAnnotation] = entry
	return out
}
