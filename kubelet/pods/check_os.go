package pods

import "runtime"

// operatingSystem refuses pods that are made for another one.
func operatingSystem(a admission) *rejection {
	if os := a.pod.Spec.OS; os != nil && string(os.Name) != runtime.GOOS {
		return &rejection{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	return nil
}
