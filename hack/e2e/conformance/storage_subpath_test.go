package conformance

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// atSubPath: a file of a volume whose content comes from the API, mounted alone, reads the same again and again (STO-010 to STO-014).
// at is where it is mounted.
func atSubPath(at string, source func(*row, string) corev1.VolumeSource) func(*row) {
	return func(r *row) {
		const times = 50
		ns := r.namespace()
		pod := application("reader", "look", fmt.Sprint("-count=", times), "-every=20ms", "content:"+at)
		pod.Labels = map[string]string{"the-label": "the-value"}
		mount(pod, at, source(r, ns))
		c := &pod.Spec.Containers[0]
		c.VolumeMounts[0].SubPath = "the-key"
		mount(pod, "/whole", pod.Spec.Volumes[0].VolumeSource)
		r.reaches(ns, pod, corev1.PodSucceeded)
		log := r.logs(ns, pod.Name)
		r.equal("what the container read", log, strings.Repeat("content of "+at+": the-value\n", times))
	}
}

func (k content) underKey(r *row, ns string) corev1.VolumeSource {
	r.Helper()
	k.put(r, ns, "object", map[string]string{"the-key": "the-value"})
	return k.volume("object", nil, nil, corev1.KeyToPath{Key: "the-key", Path: "the-key"})
}

// labelUnderKey is a volume with the reader's label.
func labelUnderKey(*row, string) corev1.VolumeSource {
	return downward(false, nil, fieldFile("the-key", "metadata.labels['the-label']"))
}
