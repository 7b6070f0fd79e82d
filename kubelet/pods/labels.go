package pods

import "pilothouse.dev/kubelet/status"

// Labels of containers and sandboxes, beside labelBackoff.
const (
	// labelImage is the image as the pod names it, to see that it was changed.
	labelImage = status.LabelImage
	// labelRound counts how often all containers of the pod were started anew before this one; none: never.
	labelRound = "pilothouse.dev/round"
	// labelGrace is the pod's grace period in seconds, for a pod that the API has forgotten.
	labelGrace = "pilothouse.dev/grace"
)
