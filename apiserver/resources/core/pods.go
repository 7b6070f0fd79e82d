package core

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
	"pilothouse.dev/pkg/pod"
)

// Pods are what runs.
var Pods = registry.Define(registry.Kind[*corev1.Pod]{
	Version: "v1", Kind: "Pod", Plural: "pods", Short: []string{"po"}, Categories: []string{"all"},
	ReturnsDeleted: true,
	Namespaced:     true, Status: true, Generation: true,
	Default:        podspec.DefaultPod,
	BeforeCreate:   preparePod,
	BeforeStatus:   preparePodStatus,
	Validate:       podspec.ValidatePod,
	ValidateUpdate: podspec.ValidatePodUpdate,
	ValidateStatus: validatePodStatus,
	Warn:           podspec.WarnPod,
	Grace:          podGrace,
	Parts: []registry.Part[*corev1.Pod]{
		{Name: "ephemeralcontainers", Keep: podspec.KeepForEphemeral, Validate: podspec.ValidateEphemeral},
		{Name: "resize", Keep: podspec.KeepForResize, Validate: podspec.ValidateResize},
	},
	FieldNames: []string{
		"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
		"status.phase", "status.podIP", "status.nominatedNodeName",
	},
	Fields:  podFields,
	Columns: podColumns,
})

// preparePod starts a pod as pending, with the class its resources make; nobody may bring a status along.
func preparePod(p *corev1.Pod) {
	podspec.MergeLabelKeys(p)
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: pod.SpecQoS(p)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
			Reason: corev1.PodReasonSchedulingGated, Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
}

// preparePodStatus keeps what a status update may not take away.
func preparePodStatus(p, old *corev1.Pod) {
	if p.Status.QOSClass == "" {
		p.Status.QOSClass = old.Status.QOSClass
	}
	// podIP and podIPs[0] are one field with two names: the newer wins when they differ.
	switch {
	case len(p.Status.PodIPs) > 0:
		p.Status.PodIP = p.Status.PodIPs[0].IP
	case p.Status.PodIP != "":
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	if len(p.Status.HostIPs) == 0 && p.Status.HostIP != "" {
		p.Status.HostIPs = []corev1.HostIP{{IP: p.Status.HostIP}}
	}
}

// podGrace says how long a pod may take to end: at most what the first deletion granted; nothing once there is nothing left
// to end, or no node that would end it.
func podGrace(p *corev1.Pod, o *metav1.DeleteOptions) int64 {
	if p.Spec.NodeName == "" || pod.Terminal(p) {
		return 0
	}
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	switch {
	case o != nil && o.GracePeriodSeconds != nil:
		seconds = *o.GracePeriodSeconds
	case p.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	if seconds < 0 {
		seconds = 1 // as validated pods of old mean it
	}
	if p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil {
		seconds = min(seconds, *p.DeletionGracePeriodSeconds)
	}
	return seconds
}

func podFields(p *corev1.Pod) fields.Set {
	ip := p.Status.PodIP
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}
