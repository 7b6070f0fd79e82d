package job

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
)

// enough finds the first rule of a success policy that the succeeded indexes meet, and says which.
func enough(policy *batchv1.SuccessPolicy, completions int, done indexes) (message string, met bool) {
	if policy == nil {
		return "", false
	}
	for i, r := range policy.Rules {
		have, want := done.count(), 0
		if r.SucceededIndexes != nil {
			wanted := parseIndexes(*r.SucceededIndexes, completions)
			have, want = done.common(wanted), wanted.count()
		}
		if r.SucceededCount != nil {
			want = int(*r.SucceededCount)
		}
		if r.SucceededIndexes == nil && r.SucceededCount == nil {
			continue
		}
		if have >= want {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}
