package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/admission"
)

// limitAntiAffinity keeps a pod from claiming more than a node for itself
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#limitpodhardantiaffinitytopology).
type limitAntiAffinity struct{}

func (limitAntiAffinity) Name() string { return "LimitPodHardAntiAffinityTopology" }

func (limitAntiAffinity) Validate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update || !a.Is("", "pods") {
		return nil
	}
	affinity := a.Object.(*corev1.Pod).Spec.Affinity
	if affinity == nil || affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, term := range affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if term.TopologyKey != corev1.LabelHostname {
			return forbid(a, "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed", term.TopologyKey, corev1.LabelHostname)
		}
	}
	return nil
}
