package pod

import (
	corev1 "k8s.io/api/core/v1"
)

// Terminal says whether the pod has finished for good: Succeeded or Failed. It uses nothing of its node any more.
func Terminal(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Terminating says whether the pod has been asked to end.
func Terminating(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }

// Active says whether the pod counts for those who keep a number of pods: neither finished nor asked to end.
func Active(p *corev1.Pod) bool { return !Terminal(p) && !Terminating(p) }

// Assigned says whether the pod has a node.
func Assigned(p *corev1.Pod) bool { return p.Spec.NodeName != "" }

// Priority is the pod's priority, 0 where none was set.
func Priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// SystemCritical is the priority of system-cluster-critical; pods at or above it are not evicted for want of resources.
const SystemCritical int32 = 2_000_000_000

// Critical says whether a node must keep the pod when it must end others: static pods, mirrors of them, and pods of system
// priority.
func Critical(p *corev1.Pod) bool { return Static(p) || Mirror(p) || Priority(p) >= SystemCritical }

// Annotations by which a kubelet tells where a pod comes from.
const (
	AnnotationSource = "kubernetes.io/config.source" // file or api
	AnnotationHash   = "kubernetes.io/config.hash"   // of a static pod's manifest; also its UID
	AnnotationMirror = "kubernetes.io/config.mirror" // on a mirror: the hash of the static pod
)

// Static says whether the pod comes from a node's own files instead of the API.
func Static(p *corev1.Pod) bool {
	source := p.Annotations[AnnotationSource]
	return source != "" && source != "api" && !Mirror(p)
}

// Mirror says whether the object is a static pod's image in the API: only its node may create, change or end it.
func Mirror(p *corev1.Pod) bool {
	_, ok := p.Annotations[AnnotationMirror]
	return ok
}

// GracePeriod is how many seconds the pod has to end: what the deletion says, else what the spec says, else 30.
func GracePeriod(p *corev1.Pod) int64 {
	if p.DeletionGracePeriodSeconds != nil {
		return *p.DeletionGracePeriodSeconds
	}
	if p.Spec.TerminationGracePeriodSeconds != nil {
		return *p.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}
