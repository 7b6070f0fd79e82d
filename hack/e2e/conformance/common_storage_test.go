package conformance

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The rows of common/storage look at volumes from inside of containers: testapp's look says a line for each thing that it is asked for.

// looker is a pod with a container that looks at those things once, or again and again until the pod is deleted, and says what has changed.
func looker(name string, forever bool, at ...string) *corev1.Pod {
	return application(name, lookArgs(forever, at...)...)
}

func lookArgs(forever bool, at ...string) []string {
	args := []string{"look"}
	if forever {
		args = append(args, "-count=0", "-every=20ms")
	}
	return append(args, at...)
}

// mount gives a pod a volume, and its first container that volume at a path.
func mount(pod *corev1.Pod, path string, source corev1.VolumeSource) {
	name := fmt.Sprintf("volume-%d", len(pod.Spec.Volumes))
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path})
}

// as has the pod's containers run as a user, with a group for its volumes; 0 is none.
func as(pod *corev1.Pod, user, group int64) {
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
	if user != 0 {
		pod.Spec.SecurityContext.RunAsUser = &user
	}
	if group != 0 {
		pod.Spec.SecurityContext.FSGroup = &group
	}
}

// says makes a pod that ends by itself, and ends the test unless its first container has said those lines.
func (r *row) says(ns string, pod *corev1.Pod, want ...string) {
	r.Helper()
	r.reaches(ns, pod, corev1.PodSucceeded)
	r.heard(ns, pod.Name, pod.Spec.Containers[0].Name, want...)
}

// heard waits until a container has said those lines.
func (r *row) heard(ns, pod, container string, want ...string) {
	r.Helper()
	r.eventually(fmt.Sprintf("container %s of pod %s says %q", container, pod, want), func() (bool, error) {
		b, err := r.kube.CoreV1().Pods(ns).GetLogs(pod, &corev1.PodLogOptions{Container: container}).DoRaw(r.ctx)
		if err != nil {
			return false, err
		}
		lines := strings.Split(string(b), "\n")
		for _, w := range want {
			if !slices.Contains(lines, w) {
				return false, fmt.Errorf("it said %q", b)
			}
		}
		return true, nil
	})
}
