package images

import (
	"fmt"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
)

// Normalize spells an image name out: busybox becomes docker.io/library/busybox:latest. A tag beside a digest is dropped. The error is a Failure with
// the reason InvalidName.
func Normalize(image string) (string, error) {
	named, err := parse(image)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

func parse(image string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return nil, &Failure{Reason: InvalidName, Image: image, Message: fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: %v", image, image, err)}
	}
	return named, nil
}

// policyFor fills in the API's default, for static pods that no apiserver has defaulted, and for image volumes.
func policyFor(policy corev1.PullPolicy, named reference.Named) corev1.PullPolicy {
	if policy != "" {
		return policy
	}
	if tagged, ok := named.(reference.Tagged); ok && tagged.Tag() == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}
