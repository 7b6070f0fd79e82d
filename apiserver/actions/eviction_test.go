package actions

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestDisrupted(t *testing.T) {
	full := map[string]metav1.Time{}
	for i := range maxDisrupted + 1 {
		full[strings.Repeat("x", i+1)] = metav1.Now()
	}
	for _, c := range []struct {
		name   string
		status policyv1.PodDisruptionBudgetStatus
		code   int32
		cause  string
		retry  int32
	}{
		{"allowed", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, DisruptionsAllowed: 2}, 0, "", 0},
		{"the last one", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 3, DisruptionsAllowed: 1}, 0, "", 0},
		{"none left", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, DesiredHealthy: 3, CurrentHealthy: 2}, 429, "The disruption budget b needs 3 healthy pods and has 2 currently", 0},
		{"not known how many", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, Conditions: []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition,
			Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "no scale"}}}, 429, "The disruption budget b does not allow evicting pods because it failed sync: no scale", 0},
		{"not seen yet", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 2}, 429, "The disruption budget b is still being processed by the server.", 10},
		{"less than none", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, DisruptionsAllowed: -1}, 403, "", 0},
		{"too many going", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, DisruptionsAllowed: 1, DisruptedPods: full}, 403, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b", Generation: 2}, Status: c.status}
			if b.Status.Conditions == nil {
				b.Status.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionTrue, Reason: policyv1.SufficientPodsReason}}
			}
			err := disrupted(b, "p", time.Unix(7, 0))
			if c.code == 0 {
				if err != nil || b.Status.DisruptionsAllowed != c.status.DisruptionsAllowed-1 || b.Status.DisruptedPods["p"].Unix() != 7 {
					t.Errorf("got %+v, %v", b.Status, err)
				}
				if (b.Status.Conditions[0].Status == metav1.ConditionFalse) != (b.Status.DisruptionsAllowed == 0) {
					t.Errorf("condition %+v", b.Status.Conditions)
				}
				return
			}
			status := err.(apierrors.APIStatus).Status()
			if status.Code != c.code {
				t.Fatalf("got %+v", status)
			}
			if c.code == 429 && (status.Details.RetryAfterSeconds != c.retry || status.Details.Causes[0].Type != "DisruptionBudget" ||
				status.Details.Causes[0].Message != c.cause || status.Message != "Cannot evict pod as it would violate the pod's disruption budget.") {
				t.Errorf("got %+v", status)
			}
		})
	}
}

func TestFree(t *testing.T) {
	pod := func(ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}}
	}
	for _, c := range []struct {
		name             string
		policy           *policyv1.UnhealthyPodEvictionPolicyType
		ready            corev1.ConditionStatus
		current, desired int32
		want             bool
	}{
		{"ready", ptr.To(policyv1.AlwaysAllow), corev1.ConditionTrue, 9, 1, false},
		{"not ready, always", ptr.To(policyv1.AlwaysAllow), corev1.ConditionFalse, 0, 1, true},
		{"not ready, enough others", nil, corev1.ConditionFalse, 1, 1, true},
		{"not ready, enough others, said", ptr.To(policyv1.IfHealthyBudget), corev1.ConditionFalse, 2, 1, true},
		{"not ready, too few others", ptr.To(policyv1.IfHealthyBudget), corev1.ConditionFalse, 0, 1, false},
		{"not ready, none wanted", nil, corev1.ConditionFalse, 0, 0, false},
	} {
		b := &policyv1.PodDisruptionBudget{
			Spec:   policyv1.PodDisruptionBudgetSpec{UnhealthyPodEvictionPolicy: c.policy},
			Status: policyv1.PodDisruptionBudgetStatus{CurrentHealthy: c.current, DesiredHealthy: c.desired},
		}
		if got := free(b, pod(c.ready)); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

func TestEvictOptions(t *testing.T) {
	for _, c := range []struct {
		name, query string
		body        []string
		dry, ok     bool
	}{
		{"neither", "", nil, false, true}, {"query", "?dryRun=All", nil, true, true}, {"body", "", []string{"All"}, true, true},
		{"both", "?dryRun=All", []string{"All"}, true, true}, {"at odds", "?dryRun=All", []string{"None"}, false, false},
		{"unknown", "?dryRun=Some", nil, false, false},
	} {
		e := &policyv1.Eviction{}
		if c.body != nil {
			e.DeleteOptions = &metav1.DeleteOptions{DryRun: c.body}
		}
		o, err := evictOptions(httptest.NewRequest("POST", "/"+c.query, nil), e)
		if (err == nil) != c.ok || c.ok && (eviction{options: o}).dry() != c.dry {
			t.Errorf("%s: got %+v, %v", c.name, o, err)
		}
	}
}
