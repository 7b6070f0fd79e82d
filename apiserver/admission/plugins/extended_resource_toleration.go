package plugins

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// tolerateExtended lets pods onto nodes that are tainted with the extended resources that they ask for
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#extendedresourcetoleration).
type tolerateExtended struct{}

func (tolerateExtended) Name() string { return "ExtendedResourceToleration" }

func (tolerateExtended) Mutate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update || !a.Is("", "pods") {
		return nil
	}
	o := a.Object.(*corev1.Pod)
	var names []string
	for kind, c := range pod.Containers(o) {
		if kind == pod.Ephemeral {
			continue
		}
		for name := range c.Resources.Requests {
			if extended(name) && !slices.Contains(names, string(name)) {
				names = append(names, string(name))
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		t := corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
		if !hasToleration(o.Spec.Tolerations, t) {
			o.Spec.Tolerations = append(o.Spec.Tolerations, t)
		}
	}
	return nil
}

// extended says whether a resource is not of Kubernetes itself
// (https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#extended-resources).
func extended(name corev1.ResourceName) bool {
	domain, _, qualified := strings.Cut(string(name), "/")
	return qualified && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") &&
		!strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) &&
		len(content.IsLabelKey(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}
