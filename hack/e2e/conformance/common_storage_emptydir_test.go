package conformance

import (
	"io/fs"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// newFile: a file that is made in an empty folder has the mode it is made with (CS-024 to CS-035).
func newFile(bits uint32, medium corev1.StorageMedium, user int64) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		const dir, file = "/test-volume", "/test-volume/test-file"
		pod := looker("maker", false, "type:"+dir, "make=0"+strconv.FormatUint(uint64(bits), 8)+":"+file, "mode:"+file, "content:"+file)
		mount(pod, dir, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium}})
		as(pod, user, 0)
		want := []string{"make of " + file + ": made", "mode of " + file + ": " + fs.FileMode(bits).String(), "content of " + file + ": line"}
		if medium == corev1.StorageMediumMemory {
			want = append(want, "type of "+dir+": tmpfs")
		}
		r.says(ns, pod, want...)
	}
}

// openToAll: an empty folder can be used by everybody (CS-036, CS-037).
func openToAll(medium corev1.StorageMedium) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		pod := looker("reader", false, "type:/test-volume", "mode:/test-volume")
		mount(pod, "/test-volume", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium}})
		want := []string{"mode of /test-volume: drwxrwxrwx"}
		if medium == corev1.StorageMediumMemory {
			want = append(want, "type of /test-volume: tmpfs")
		}
		r.says(ns, pod, want...)
	}
}

// CS-023: what one container writes, the other reads.
func emptyDirShared(r *row) {
	ns := r.namespace()
	pod := looker("shared", true, "content:/usr/share/volumeshare/shareddata.txt")
	mount(pod, "/usr/share/volumeshare", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	writer := *pod.Spec.Containers[0].DeepCopy()
	writer.Name, writer.Args = "writer", []string{"look", "-count=0", "-text=Hello from the other container", "write:/usr/share/volumeshare/shareddata.txt"}
	pod.Spec.Containers = append(pod.Spec.Containers, writer)
	r.reaches(ns, pod, corev1.PodRunning)
	r.heard(ns, pod.Name, "c", "content of /usr/share/volumeshare/shareddata.txt: Hello from the other container")
}
