package lookup

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"

	"pilothouse.dev/apiserver/storage"
)

// PodDisruptionBudgets reads the budgets of a namespace, in the newest state.
func (l *Lookup) PodDisruptionBudgets(ctx context.Context, namespace string) ([]*policyv1.PodDisruptionBudget, error) {
	return list[*policyv1.PodDisruptionBudget](ctx, l, policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"),
		storage.Selector{Namespace: namespace}, storage.Read{})
}
