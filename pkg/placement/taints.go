package placement

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// Tolerates says whether one of the tolerations covers the taint.
func Tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		if tolerations[i].ToleratesTaint(klog.Logger{}, taint, true) {
			return true
		}
	}
	return false
}

// Untolerated finds the first taint with one of the effects that no toleration covers, nil when there is none. It points
// into taints.
func Untolerated(taints []corev1.Taint, tolerations []corev1.Toleration, effects ...corev1.TaintEffect) *corev1.Taint {
	for i := range taints {
		if slices.Contains(effects, taints[i].Effect) && !Tolerates(tolerations, &taints[i]) {
			return &taints[i]
		}
	}
	return nil
}

// Repels is Untolerated for the effects that keep a new pod away: NoSchedule and NoExecute.
func Repels(taints []corev1.Taint, tolerations []corev1.Toleration) *corev1.Taint {
	return Untolerated(taints, tolerations, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
}

// TolerationSeconds tells how long a pod may stay on a node with these taints: forever, or until the shortest toleration of a
// NoExecute taint runs out; ok is false when some NoExecute taint is not tolerated at all. Where several tolerations cover
// one taint, the first of them counts.
func TolerationSeconds(taints []corev1.Taint, tolerations []corev1.Toleration) (seconds int64, forever, ok bool) {
	forever = true
	for i := range taints {
		if taints[i].Effect != corev1.TaintEffectNoExecute {
			continue
		}
		j := slices.IndexFunc(tolerations, func(t corev1.Toleration) bool {
			return t.ToleratesTaint(klog.Logger{}, &taints[i], true)
		})
		if j < 0 {
			return 0, false, false
		}
		if tolerations[j].TolerationSeconds == nil {
			continue
		}
		s := max(*tolerations[j].TolerationSeconds, 0)
		if forever || s < seconds {
			seconds, forever = s, false
		}
	}
	return seconds, forever, true
}
