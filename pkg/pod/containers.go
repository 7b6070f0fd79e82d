package pod

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// Kind is which list of the pod a container stands in.
type Kind int

// The lists, in the order in which Containers walks them.
const (
	Init      Kind = iota // spec.initContainers, sidecars among them
	Regular               // spec.containers
	Ephemeral             // spec.ephemeralContainers
)

// Containers walks over all containers of the pod: init containers, containers, ephemeral containers. An ephemeral container
// is shown as a plain one, which has the same fields except its target.
func Containers(p *corev1.Pod) iter.Seq2[Kind, *corev1.Container] {
	return func(yield func(Kind, *corev1.Container) bool) {
		for i := range p.Spec.InitContainers {
			if !yield(Init, &p.Spec.InitContainers[i]) {
				return
			}
		}
		for i := range p.Spec.Containers {
			if !yield(Regular, &p.Spec.Containers[i]) {
				return
			}
		}
		for i := range p.Spec.EphemeralContainers {
			c := corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !yield(Ephemeral, &c) {
				return
			}
		}
	}
}

// Container finds a container by name; names are unique over all three lists. It is nil when there is none.
func Container(p *corev1.Pod, name string) (*corev1.Container, Kind) {
	for kind, c := range Containers(p) {
		if c.Name == name {
			return c, kind
		}
	}
	return nil, 0
}

// ContainerStatus finds what was last reported of a container of any kind, nil when nothing was. It points into the pod.
func ContainerStatus(p *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{
		p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses,
	} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// Sidecar says whether an init container is one that keeps running beside the others (restartPolicy Always).
func Sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// DefaultContainer is the name of the container that commands mean when they name none: the one in the annotation
// kubectl.kubernetes.io/default-container if it exists, else the first; empty for a pod without containers.
func DefaultContainer(p *corev1.Pod) string {
	if name := p.Annotations["kubectl.kubernetes.io/default-container"]; name != "" {
		if c, _ := Container(p, name); c != nil {
			return name
		}
	}
	if len(p.Spec.Containers) == 0 {
		return ""
	}
	return p.Spec.Containers[0].Name
}
