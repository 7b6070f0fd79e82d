package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/pkg/pod"
)

// KeepForEphemeral gives a pod everything of the old one but its ephemeral containers: what pods/ephemeralcontainers changes.
func KeepForEphemeral(p, old *corev1.Pod) {
	containers := p.Spec.EphemeralContainers
	keep(p, old)
	p.Spec.EphemeralContainers = containers
}

// keep makes a pod the old one, but for what the server reckons with itself.
func keep(p, old *corev1.Pod) {
	version, managed, generation := p.ResourceVersion, p.ManagedFields, p.Generation
	old.DeepCopyInto(p)
	p.ResourceVersion, p.ManagedFields, p.Generation = version, managed, generation
}

// ValidateEphemeral checks a change by pods/ephemeralcontainers: containers may be added, and that is all.
func ValidateEphemeral(p, old *corev1.Pod) field.ErrorList {
	if pod.Mirror(p) {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	path := field.NewPath("spec", "ephemeralContainers")
	volumes := make(map[string]*corev1.Volume, len(p.Spec.Volumes))
	for i := range p.Spec.Volumes {
		volumes[p.Spec.Volumes[i].Name] = &p.Spec.Volumes[i]
	}
	errs := validateEphemerals(&p.Spec, volumes, path)
	// A patch may change the order.
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		switch is := ephemeral(p, was.Name); {
		case is == nil:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name)))
		case !apiequality.Semantic.DeepEqual(is, was):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%s", was.Name, diff.Diff(is, was))))
		}
	}
	return errs
}

func ephemeral(p *corev1.Pod, name string) *corev1.EphemeralContainer {
	for i := range p.Spec.EphemeralContainers {
		if p.Spec.EphemeralContainers[i].Name == name {
			return &p.Spec.EphemeralContainers[i]
		}
	}
	return nil
}

// validateEphemerals checks containers for debugging, whose names must be none of the others'.
func validateEphemerals(s *corev1.PodSpec, volumes map[string]*corev1.Volume, path *field.Path) field.ErrorList {
	if len(s.EphemeralContainers) == 0 {
		return nil
	}
	var errs field.ErrorList
	names, claims := sets.New[string](), claimNames(s)
	eachContainer(s, func(c *corev1.Container) { names.Insert(c.Name) })
	targets := names.Clone()
	for i := range s.EphemeralContainers {
		e, at := &s.EphemeralContainers[i], path.Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		if names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		errs = append(errs, validateContainer(&c, s, volumes, claims, at)...)
		if e.TargetContainerName != "" && !targets.Has(e.TargetContainerName) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		errs = append(errs, forbidEphemeral(&c, at)...)
	}
	return errs
}

// forbidEphemeral refuses what a container that nobody waits for and nothing is reserved for cannot have.
func forbidEphemeral(c *corev1.Container, at *field.Path) field.ErrorList {
	const why = "cannot be set for an Ephemeral Container"
	var errs field.ErrorList
	forbid := func(set bool, at *field.Path) {
		if set {
			errs = append(errs, field.Forbidden(at, why))
		}
	}
	forbid(len(c.Ports) > 0, at.Child("ports"))
	forbid(len(c.Resources.Requests)+len(c.Resources.Limits)+len(c.Resources.Claims) > 0, at.Child("resources"))
	forbid(len(c.ResizePolicy) > 0, at.Child("resizePolicy"))
	forbid(c.RestartPolicy != nil, at.Child("restartPolicy"))
	forbid(len(c.RestartPolicyRules) > 0, at.Child("restartPolicyRules"))
	forbid(c.LivenessProbe != nil, at.Child("livenessProbe"))
	forbid(c.ReadinessProbe != nil, at.Child("readinessProbe"))
	forbid(c.StartupProbe != nil, at.Child("startupProbe"))
	forbid(c.Lifecycle != nil, at.Child("lifecycle"))
	for i, m := range c.VolumeMounts {
		forbid(m.SubPath != "", at.Child("volumeMounts").Index(i).Child("subPath"))
		forbid(m.SubPathExpr != "", at.Child("volumeMounts").Index(i).Child("subPathExpr"))
	}
	return errs
}
