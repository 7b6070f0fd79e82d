package plugins

import (
	"slices"

	"pilothouse.dev/scheduler/framework"
)

// moreIsBetter stretches scores so that the highest becomes MaxScore; all zero stays so.
func moreIsBetter(scores []int64) {
	if len(scores) == 0 {
		return
	}
	top := slices.Max(scores)
	if top == 0 {
		return
	}
	for i := range scores {
		scores[i] = scores[i] * framework.MaxScore / top
	}
}

// fewerIsBetter is moreIsBetter upside down: zero becomes MaxScore.
func fewerIsBetter(scores []int64) {
	moreIsBetter(scores)
	for i := range scores {
		scores[i] = framework.MaxScore - scores[i]
	}
}
