package actions

import (
	"fmt"
	"maps"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// bind assigns a pod to a node, once: POST pods/NAME/binding.
func (p Parts) bind(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	b := &corev1.Binding{}
	if err := read(r, core("Binding"), b); err != nil {
		return err
	}
	if b.Name != "" && b.Name != i.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("name in URL does not match name in Binding object: %q, %q", i.Name, b.Name))
	}
	return p.assign(w, r, on, keyOf(i), b)
}

// bindNamed does so for the pod that the body names: POST bindings.
func (p Parts) bindNamed(w http.ResponseWriter, r *http.Request, _ *registry.Resource, i *request.Info) error {
	b := &corev1.Binding{}
	if err := read(r, core("Binding"), b); err != nil {
		return err
	}
	if b.Namespace != "" && b.Namespace != i.Namespace {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the namespace of the provided object does not match the namespace sent on the request (%s, %s)", b.Namespace, i.Namespace))
	}
	if b.Name == "" {
		return apierrors.NewInvalid(core("Binding").GroupKind(), "", field.ErrorList{field.Required(field.NewPath("metadata", "name"), "name the pod")})
	}
	return p.assign(w, r, p.registry.Find(pods), storage.Key{Namespace: i.Namespace, Name: b.Name}, b)
}

func (p Parts) assign(w http.ResponseWriter, r *http.Request, on *registry.Resource, key storage.Key, b *corev1.Binding) error {
	var errs field.ErrorList
	target := field.NewPath("target")
	if k := b.Target.Kind; k != "" && k != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), k, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(core("Binding").GroupKind(), key.Name, errs)
	}
	b.Name, b.Namespace = key.Name, key.Namespace
	if err := p.admit(r.Context(), on, admission.Create, "binding", key, b, dryRun(r)); err != nil {
		return err
	}
	_, err := p.Write.Mutate(r.Context(), on, key, "binding", dryRun(r), func(old registry.Object) (registry.Object, error) {
		pod := old.(*corev1.Pod)
		switch {
		case b.UID != "" && b.UID != pod.UID:
			return nil, conflict(on, pod, "Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, pod.UID)
		case pod.DeletionTimestamp != nil:
			return nil, conflict(on, pod, "pod %s is being deleted, cannot be assigned to a host", pod.Name)
		case pod.Spec.NodeName != "":
			return nil, conflict(on, pod, "pod %s is already assigned to node %q", pod.Name, pod.Spec.NodeName)
		case len(pod.Spec.SchedulingGates) > 0:
			return nil, conflict(on, pod, "pod %s has non-empty .spec.schedulingGates", pod.Name)
		}
		pod.Spec.NodeName = b.Target.Name
		if pod.Annotations == nil && len(b.Annotations) > 0 {
			pod.Annotations = map[string]string{}
		}
		maps.Copy(pod.Annotations, b.Annotations)
		scheduled(pod)
		return pod, nil
	})
	if err != nil {
		return err
	}
	return created(w, r)
}

// scheduled sets the condition that tells the pod has its node.
func scheduled(pod *corev1.Pod) {
	c := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation}
	for k := range pod.Status.Conditions {
		if pod.Status.Conditions[k].Type == c.Type {
			pod.Status.Conditions[k] = c
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, c)
}

func conflict(on *registry.Resource, pod *corev1.Pod, format string, args ...any) error {
	return apierrors.NewConflict(on.GroupResource(), pod.Name, fmt.Errorf(format, args...))
}
