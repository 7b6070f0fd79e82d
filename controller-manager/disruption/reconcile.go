package disruption

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/pkg/pod"
)

// patience is how long a disruption that was announced may take to begin.
const patience = 2 * time.Minute

// lookAgain is when to see whether a kind that had no scale has got one.
const lookAgain = 5 * time.Minute

// expectation is how many pods a budget's workloads should have.
type expectation struct {
	pods      int32
	unmanaged int // pods that are nobody's, which it leaves out
}

// plan is what to say of a budget.
type plan struct {
	status policyv1.PodDisruptionBudgetStatus
	again  time.Duration
	notes  []note
}

// note is an event to be told, of the budget or of a pod.
type note struct {
	pod                   *corev1.Pod
	kind, reason, message string
}

// byScale says whether the budget's numbers depend on how many pods there should be, and not only on how many there are
// (https://kubernetes.io/docs/tasks/run-application/configure-pdb/#arbitrary-controllers-and-selectors).
func byScale(b *policyv1.PodDisruptionBudget) bool {
	return b.Spec.MaxUnavailable != nil || b.Spec.MinAvailable != nil && b.Spec.MinAvailable.Type == intstr.String
}

// desired is how many pods must stay healthy. A part of a pod counts as a whole one, both of what must stay and of what may go.
func desired(b *policyv1.PodDisruptionBudget, expected int32) (int32, error) {
	of := func(v *intstr.IntOrString) (int32, error) {
		n, err := intstr.GetScaledValueFromIntOrPercent(v, int(expected), true)
		return int32(n), err
	}
	switch {
	case b.Spec.MaxUnavailable != nil:
		n, err := of(b.Spec.MaxUnavailable)
		return max(expected-n, 0), err
	case b.Spec.MinAvailable != nil:
		return of(b.Spec.MinAvailable)
	}
	return 0, nil
}

// decide reckons what a budget allows.
func decide(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, e expectation, now time.Time) plan {
	want, err := desired(b, e.pods)
	if err != nil {
		return unknown(b, err, now)
	}
	p := plan{status: *b.Status.DeepCopy()}
	if len(pods) == 0 {
		p.say(corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	if e.unmanaged > 0 {
		p.say(corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. "+
			"As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods "+
			"please set \".spec.minAvailable\" field of the PDB to an integer value.", metav1.FormatLabelSelector(b.Spec.Selector))
	}
	p.announced(b, pods, now)
	s := &p.status
	s.ObservedGeneration, s.ExpectedPods, s.DesiredHealthy, s.CurrentHealthy = b.Generation, e.pods, want, 0
	for _, o := range pods {
		if _, going := s.DisruptedPods[o.Name]; !going && o.DeletionTimestamp == nil && pod.Ready(o) {
			s.CurrentHealthy++
		}
	}
	s.DisruptionsAllowed = max(s.CurrentHealthy-s.DesiredHealthy, 0)
	if s.ExpectedPods <= 0 {
		s.DisruptionsAllowed = 0
	}
	c := metav1.Condition{Status: metav1.ConditionTrue, Reason: policyv1.SufficientPodsReason}
	if s.DisruptionsAllowed == 0 {
		c.Status, c.Reason = metav1.ConditionFalse, policyv1.InsufficientPodsReason
	}
	p.condition(b, c, now)
	return p
}

// announced keeps of what evictions have noted those pods that are still to go.
func (p *plan) announced(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, now time.Time) {
	p.status.DisruptedPods = nil
	for _, o := range pods {
		at, noted := b.Status.DisruptedPods[o.Name]
		if !noted || o.DeletionTimestamp != nil {
			continue
		}
		left := at.Add(patience).Sub(now)
		if left <= 0 {
			p.notes = append(p.notes, note{pod: o, kind: corev1.EventTypeWarning, reason: "NotDeleted",
				message: fmt.Sprintf("Pod was expected by PDB %s/%s to be deleted but it wasn't", b.Namespace, b.Name)})
			continue
		}
		if p.status.DisruptedPods == nil {
			p.status.DisruptedPods = map[string]metav1.Time{}
		}
		p.status.DisruptedPods[o.Name] = at
		if p.again == 0 || left < p.again {
			p.again = left
		}
	}
}

// unknown allows nothing: it is not known how many pods there should be.
func unknown(b *policyv1.PodDisruptionBudget, why error, now time.Time) plan {
	p := plan{status: *b.Status.DeepCopy(), again: lookAgain}
	p.status.ObservedGeneration, p.status.DisruptionsAllowed = b.Generation, 0
	p.condition(b, metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: why.Error()}, now)
	p.say(corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", why)
	return p
}

func (p *plan) condition(b *policyv1.PodDisruptionBudget, c metav1.Condition, now time.Time) {
	c.Type, c.ObservedGeneration, c.LastTransitionTime = policyv1.DisruptionAllowedCondition, b.Generation, metav1.NewTime(now)
	meta.SetStatusCondition(&p.status.Conditions, c)
}

func (p *plan) say(kind, reason, format string, args ...any) {
	p.notes = append(p.notes, note{kind: kind, reason: reason, message: fmt.Sprintf(format, args...)})
}

// changed says whether anything differs that a budget goes by.
func changed(a, b *corev1.Pod) bool {
	return pod.Ready(a) != pod.Ready(b) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		ownerOf(a) != ownerOf(b) || !maps.Equal(a.Labels, b.Labels)
}
