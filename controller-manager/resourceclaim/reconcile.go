package resourceclaim

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

// nameOf is the claim that an entry of a pod means: the one it names itself, or the one that was made for it. said tells a pod that
// was told that it needs none from one that was told nothing.
func nameOf(p *corev1.Pod, entry *corev1.PodResourceClaim) (name string, said bool) {
	if entry.ResourceClaimName != nil {
		return *entry.ResourceClaimName, true
	}
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.Name == entry.Name {
			if s.ResourceClaimName != nil {
				return *s.ResourceClaimName, true
			}
			return "", true
		}
	}
	return "", false
}

// owner is the pod a claim was made for, if it was.
func owner(c *resourcev1.ResourceClaim) *metav1.OwnerReference {
	if ref := metav1.GetControllerOfNoCopy(c); ref != nil && ref.Kind == podKind.Kind && ref.APIVersion == "v1" {
		return ref
	}
	return nil
}

// madeFor says what is wrong with a claim that a pod names as its own and that is somebody else's.
func madeFor(c *resourcev1.ResourceClaim, p *corev1.Pod) error {
	if metav1.IsControlledBy(c, p) {
		return nil
	}
	return fmt.Errorf("ResourceClaim %s/%s was not created for Pod %s/%s (Pod is not owner)", c.Namespace, c.Name, p.Namespace, p.Name)
}

// longest is how long the part of a generated name may be that is not generated.
const longest = 57

// fromTemplate is the claim for one entry of a pod. Both names are told in that of the claim, shortened evenly where they are long.
func fromTemplate(t *resourcev1.ResourceClaimTemplate, p *corev1.Pod, entry string) *resourcev1.ResourceClaim {
	first, second := p.Name, entry
	if half := (longest - 1) / 2; len(first)+len(second)+2 > longest {
		first, second = strings.TrimRight(first[:min(len(first), half)], "-."), second[:min(len(second), half-1)] // no part of a name ends in a dot
	}
	ref := metav1.NewControllerRef(p, podKind)
	t = t.DeepCopy()
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, GenerateName: first + "-" + second + "-", OwnerReferences: []metav1.OwnerReference{*ref},
			Labels: t.Spec.Labels, Annotations: annotated(t.Spec.Annotations, entry),
		},
		Spec: t.Spec.Spec,
	}
}

// tell writes names of claims to a pod, by a patch that fails on another pod of the name and leaves what others wrote.
func (c *controller) tell(ctx context.Context, p *corev1.Pod, names []corev1.PodResourceClaimStatus) (*corev1.Pod, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": map[string]any{"resourceClaimStatuses": names}})
	if err != nil {
		return nil, err
	}
	return c.t.Clients.Kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
}

// over says whether a pod uses nothing any more: it has ended, or goes without ever having been on a node.
func over(p *corev1.Pod) bool {
	return pod.Terminal(p) || p.DeletionTimestamp != nil && p.Spec.NodeName == ""
}

// reserved is an allocated claim with one more user, nil when it needs or takes none.
func reserved(c *resourcev1.ResourceClaim, p *corev1.Pod) *resourcev1.ResourceClaim {
	users := c.Status.ReservedFor
	if c.Status.Allocation == nil || c.DeletionTimestamp != nil || len(users) >= resourcev1.ResourceClaimReservedForMaxSize ||
		slices.ContainsFunc(users, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == p.UID }) {
		return nil
	}
	want := c.DeepCopy()
	want.Status.ReservedFor = append(want.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	return want
}

// released is a claim without the users that have ended, and, when none is left and it was allocated by the scheduler, without what
// was allocated. An allocated claim that has no users yet keeps it, unless it is being deleted.
func released(c *resourcev1.ResourceClaim, ended map[string]bool) *resourcev1.ResourceClaim {
	want := c.DeepCopy()
	want.Status.ReservedFor = slices.DeleteFunc(want.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return ended[string(r.UID)] })
	left := len(want.Status.ReservedFor) < len(c.Status.ReservedFor)
	if len(want.Status.ReservedFor) == 0 && (left || c.DeletionTimestamp != nil) && slices.Contains(c.Finalizers, resourcev1.Finalizer) {
		want.Status.Allocation, want.Status.Devices = nil, nil
	}
	return want
}

// freed is a claim without the finalizer that kept it while it was allocated: once it has just been given back, or is being deleted.
// One that is neither may be about to be allocated, for which the scheduler sets the finalizer first.
func freed(c, before *resourcev1.ResourceClaim) *resourcev1.ResourceClaim {
	if c.Status.Allocation != nil || len(c.Status.ReservedFor) > 0 || before.Status.Allocation == nil && c.DeletionTimestamp == nil {
		return c
	}
	want := c.DeepCopy()
	want.Finalizers = slices.DeleteFunc(want.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
	return want
}

// forAdmins says whether a claim asks for an administrator's access.
func forAdmins(s *resourcev1.ResourceClaimSpec) bool {
	return slices.ContainsFunc(s.Devices.Requests, func(r resourcev1.DeviceRequest) bool {
		return r.Exactly != nil && r.Exactly.AdminAccess != nil && *r.Exactly.AdminAccess
	})
}
