package conformance

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CN-037: a volume shows the files of an image that is pulled each time, to each container that mounts it and with a path below it; nobody can change
// them.
func imageVolume(r *row) {
	ns := r.namespace()
	source := corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "testapp", PullPolicy: corev1.PullAlways}}
	pod := application("reader", "look", "mode:/volume/testapp", "content:/volume/etc/group", "write:/volume/new", "mode:/program", "write:/program")
	mount(pod, "/volume", source)
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: c.VolumeMounts[0].Name, MountPath: "/program", SubPath: "testapp"})
	first := application("", "look", "mode:/other/testapp").Spec.Containers[0]
	first.Name, first.VolumeMounts = "first", []corev1.VolumeMount{{Name: c.VolumeMounts[0].Name, MountPath: "/other", ReadOnly: true}}
	pod.Spec.InitContainers = []corev1.Container{first}
	r.says(ns, pod, "mode of /volume/testapp: -rwxr-xr-x", "write of /volume/new: (read-only file system)",
		"mode of /program: -rwxr-xr-x", "write of /program: (read-only file system)")
	r.heard(ns, pod.Name, "first", "mode of /other/testapp: -rwxr-xr-x")
	for _, reason := range []string{"Pulling", "Pulled"} {
		r.eventually("an event tells of "+reason, func() (bool, error) {
			list, err := r.kube.CoreV1().Events(ns).List(r.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name + ",reason=" + reason})
			return err == nil && slices.ContainsFunc(list.Items, func(e corev1.Event) bool { // of the volume, not of a container
				return e.InvolvedObject.FieldPath == ""
			}), err
		})
	}
}
