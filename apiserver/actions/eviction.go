package actions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
	podof "pilothouse.dev/pkg/pod"
)

var (
	budgets  = policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets")
	evictOld = schema.GroupVersionKind{Group: "policy", Version: "v1beta1", Kind: "Eviction"} // still sent by old clients
)

// evictTries is how often an eviction that finds the pod changed starts again.
const evictTries = 8

// evict deletes a pod on behalf of a drain, unless too few of its like would be left: POST pods/NAME/eviction
// (https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/).
func (p Parts) evict(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	e := &policyv1.Eviction{}
	if err := read(r, policyv1.SchemeGroupVersion.WithKind("Eviction"), e, evictOld); err != nil {
		return err
	}
	if e.Name != "" && e.Name != i.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("name in URL does not match name in Eviction object: %q, %q", i.Name, e.Name))
	}
	o, err := evictOptions(r, e)
	if err != nil {
		return err
	}
	e.Name, e.Namespace = i.Name, i.Namespace
	if err := p.admit(r.Context(), on, admission.Create, "eviction", keyOf(i), e, len(o.DryRun) > 0); err != nil {
		return err
	}
	v := eviction{p, on, keyOf(i), o}
	err = apierrors.NewConflict(on.GroupResource(), i.Name, errors.New("the pod changes too fast to be evicted; please try again"))
	for range evictTries {
		var again bool
		if again, err = v.try(r.Context()); !again {
			break
		}
	}
	if err != nil {
		return err
	}
	return created(w, r)
}

// evictOptions are how the pod is to be deleted. A dry run may be asked for in the query, in the body or in both.
func evictOptions(r *http.Request, e *policyv1.Eviction) (*metav1.DeleteOptions, error) {
	o := e.DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	if asked := r.URL.Query()["dryRun"]; len(asked) > 0 {
		if len(o.DryRun) > 0 && !slices.Equal(o.DryRun, asked) {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("Non-matching dry-run options in request and content: %v and %v", asked, o.DryRun))
		}
		o.DryRun = asked
	}
	for _, d := range o.DryRun {
		if d != metav1.DryRunAll {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("dryRun: Unsupported value: %q: supported values: %q", d, metav1.DryRunAll))
		}
	}
	return o, nil
}

// eviction is one pod's.
type eviction struct {
	Parts
	pods    *registry.Resource
	key     storage.Key
	options *metav1.DeleteOptions
}

func (v eviction) dry() bool { return len(v.options.DryRun) > 0 }

// pinned says whether the caller named the state of the pod that he means.
func (v eviction) pinned() bool {
	return v.options.Preconditions != nil && v.options.Preconditions.ResourceVersion != nil
}

// at are the options with which only the given state of the pod is deleted.
func (v eviction) at(resourceVersion string) *metav1.DeleteOptions {
	o := v.options.DeepCopy()
	if o.Preconditions == nil {
		o.Preconditions = &metav1.Preconditions{}
	}
	o.Preconditions.ResourceVersion = &resourceVersion
	return o
}

// try evicts the pod as it is now; again says that it was another by then.
func (v eviction) try(ctx context.Context) (again bool, err error) {
	pod, err := pod(ctx, v.pods, &request.Info{Namespace: v.key.Namespace, Name: v.key.Name})
	if err != nil {
		return false, err
	}
	if err := mustBe(v.pods, pod, v.options.Preconditions); err != nil { // before anything is spent for it
		return false, err
	}
	if podof.Terminal(pod) || podof.Terminating(pod) { // nothing is disrupted by what does not run
		return false, v.delete(ctx, v.options)
	}
	if pod.Status.Phase == corev1.PodPending { // unless it starts just now
		o := v.options
		if !v.pinned() {
			o = v.at(pod.ResourceVersion)
		}
		err := v.delete(ctx, o)
		return apierrors.IsConflict(err) && !v.pinned(), err
	}
	budget, err := v.budget(ctx, pod)
	if err != nil {
		return false, err
	}
	if budget == nil {
		return false, v.disrupt(ctx, v.options)
	}
	if free(budget, pod) { // while it is not ready
		o := v.options
		if !v.pinned() {
			o = v.at(pod.ResourceVersion)
		}
		err := v.disrupt(ctx, o)
		if apierrors.IsConflict(err) && !v.pinned() {
			err = wait(budget.Name)
		}
		return false, err
	}
	if err := v.spend(ctx, budget.Name); err != nil {
		return false, err
	}
	return false, v.disrupt(ctx, v.options)
}

// budget finds the pod's budget, nil when it has none.
func (v eviction) budget(ctx context.Context, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	all, err := v.Objects.PodDisruptionBudgets(ctx, pod.Namespace)
	if err != nil {
		return nil, err
	}
	var found *policyv1.PodDisruptionBudget
	for _, b := range all {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(pod.Labels)) { // one that is no selector selects nothing
			continue
		}
		if found != nil {
			return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError,
				Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
			}}
		}
		found = b
	}
	return found, nil
}

// free says whether the pod may go without counting: it is not healthy, and either its budget does not mind or there are enough
// healthy ones beside it (https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy).
func free(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	if podof.Ready(pod) {
		return false
	}
	return ptr.Deref(b.Spec.UnhealthyPodEvictionPolicy, policyv1.IfHealthyBudget) == policyv1.AlwaysAllow ||
		b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// spend takes one disruption from a budget.
func (v eviction) spend(ctx context.Context, budget string) error {
	res := v.registry.Find(budgets)
	if res == nil {
		return apierrors.NewNotFound(budgets.GroupResource(), budget)
	}
	_, err := v.Write.Mutate(ctx, res, storage.Key{Namespace: v.key.Namespace, Name: budget}, "status", v.dry(), func(old registry.Object) (registry.Object, error) {
		b := old.(*policyv1.PodDisruptionBudget)
		return b, disrupted(b, v.key.Name, time.Now())
	})
	return err
}

// maxDisrupted bounds the pods that the disruption controller has not yet seen go.
const maxDisrupted = 2000

// disrupted counts one more disruption, or says why there may be none now.
func disrupted(b *policyv1.PodDisruptionBudget, pod string, now time.Time) error {
	s := &b.Status
	forbidden := func(why string) error {
		return apierrors.NewForbidden(schema.GroupResource{Group: "policy", Resource: "poddisruptionbudget"}, b.Name, errors.New(why))
	}
	switch {
	case s.ObservedGeneration < b.Generation:
		return wait(b.Name)
	case s.DisruptionsAllowed < 0:
		return forbidden("pdb disruptions allowed is negative")
	case len(s.DisruptedPods) > maxDisrupted:
		return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller")
	case s.DisruptionsAllowed == 0:
		if c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition); c != nil && c.Reason == policyv1.SyncFailedReason {
			return tooMany(0, fmt.Sprintf("The disruption budget %s does not allow evicting pods because it failed sync: %v", b.Name, c.Message))
		}
		return tooMany(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, s.DesiredHealthy, s.CurrentHealthy))
	}
	s.DisruptionsAllowed--
	if s.DisruptionsAllowed == 0 {
		setAllowed(b, now)
	}
	if s.DisruptedPods == nil {
		s.DisruptedPods = map[string]metav1.Time{}
	}
	s.DisruptedPods[pod] = metav1.NewTime(now)
	return nil
}

// setAllowed says in the budget's condition that no more may go.
func setAllowed(b *policyv1.PodDisruptionBudget, now time.Time) {
	for i := range b.Status.Conditions {
		c := &b.Status.Conditions[i]
		if c.Type == policyv1.DisruptionAllowedCondition && c.Status != metav1.ConditionFalse {
			c.Status, c.Reason, c.LastTransitionTime = metav1.ConditionFalse, policyv1.InsufficientPodsReason, metav1.NewTime(now)
			c.ObservedGeneration = b.Status.ObservedGeneration
		}
	}
}

// wait tells the client to come back when the budget is reckoned anew.
func wait(budget string) error {
	return tooMany(10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", budget))
}

func tooMany(seconds int, cause string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return err
}

// disrupt tells in the pod's status why it goes, and deletes it.
func (v eviction) disrupt(ctx context.Context, o *metav1.DeleteOptions) error {
	if v.dry() {
		return v.delete(ctx, o)
	}
	obj, err := v.Write.Mutate(ctx, v.pods, v.key, "status", false, func(old registry.Object) (registry.Object, error) {
		pod := old.(*corev1.Pod)
		if err := mustBe(v.pods, pod, o.Preconditions); err != nil {
			return nil, err
		}
		podof.SetCondition(&pod.Status, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation,
			Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
		}, time.Now())
		return pod, nil
	})
	if err != nil {
		return err
	}
	if o.Preconditions != nil && o.Preconditions.ResourceVersion != nil {
		o = v.at(obj.GetResourceVersion()) // our own write
	}
	return v.delete(ctx, o)
}

func mustBe(on *registry.Resource, pod *corev1.Pod, want *metav1.Preconditions) error {
	if want == nil {
		return nil
	}
	if want.UID != nil && *want.UID != pod.UID {
		return conflict(on, pod, "Precondition failed: UID in precondition: %v, UID in object meta: %v", *want.UID, pod.UID)
	}
	if rv := want.ResourceVersion; rv != nil && *rv != pod.ResourceVersion {
		return conflict(on, pod, "Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *rv, pod.ResourceVersion)
	}
	return nil
}

func (v eviction) delete(ctx context.Context, o *metav1.DeleteOptions) error {
	_, _, err := v.Write.Delete(ctx, v.pods, v.key, o)
	return err
}
