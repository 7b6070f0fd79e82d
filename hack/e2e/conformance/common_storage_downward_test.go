package conformance

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// told is a row about a file of the downward API: in a volume of its own, or projected.
type told struct {
	projected bool
	field     string // of the pod
	resource  string // or of its container
	unlimited bool   // the container has no limits
	mode      int32  // the volume's own; 0 for none
	itemMode  int32
	want      string // empty: a number that is not 0
	seen      string // the file's mode; empty: it does not matter
}

func fieldFile(path, field string) corev1.DownwardAPIVolumeFile {
	return corev1.DownwardAPIVolumeFile{Path: path, FieldRef: &corev1.ObjectFieldSelector{FieldPath: field}}
}

// downward is a volume with one file.
func downward(projected bool, mode *int32, f corev1.DownwardAPIVolumeFile) corev1.VolumeSource {
	items := []corev1.DownwardAPIVolumeFile{f}
	if projected {
		return projection(mode, corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: items}})
	}
	return corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: items, DefaultMode: mode}}
}

func (c told) row(r *row) {
	const file = "/etc/podinfo/file"
	ns := r.namespace()
	pod := looker("reader", false, "content:"+file, "mode:"+file)
	f := fieldFile("file", c.field)
	if c.resource != "" {
		f.FieldRef, f.ResourceFieldRef = nil, &corev1.ResourceFieldSelector{ContainerName: "c", Resource: c.resource}
	}
	var mode *int32
	if c.mode != 0 {
		mode = &c.mode
	}
	if c.itemMode != 0 {
		f.Mode = &c.itemMode
	}
	mount(pod, "/etc/podinfo", downward(c.projected, mode, f))
	requirements := &pod.Spec.Containers[0].Resources
	requirements.Requests = corev1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("32Mi")}
	if c.unlimited {
		requirements.Requests = nil
	} else {
		requirements.Limits = corev1.ResourceList{"cpu": resource.MustParse("1250m"), "memory": resource.MustParse("64Mi")}
	}
	if c.want != "" {
		r.says(ns, pod, "content of "+file+": "+c.want)
	} else {
		r.says(ns, pod)
		c.allocatable(r, ns, r.logs(ns, pod.Name))
	}
	if c.seen != "" {
		r.heard(ns, pod.Name, "c", "mode of "+file+": "+c.seen)
	}
}

// allocatable: without a limit of its own a container has the node's.
func (c told) allocatable(r *row, ns, log string) {
	r.Helper()
	pod, err := r.kube.CoreV1().Pods(ns).Get(r.ctx, "reader", metav1.GetOptions{})
	r.must(err, "getting the pod")
	node, err := r.kube.CoreV1().Nodes().Get(r.ctx, pod.Spec.NodeName, metav1.GetOptions{})
	r.must(err, "getting its node")
	_, name, _ := strings.Cut(c.resource, ".")
	has := node.Status.Allocatable[corev1.ResourceName(name)]
	line, _, _ := strings.Cut(log, "\n")
	said := strings.TrimPrefix(line, "content of /etc/podinfo/file: ")
	n, err := strconv.ParseInt(said, 10, 64)
	if err != nil || n <= 0 || n != has.Value() {
		r.Fatalf("the container was told %q, the node has %s", said, has.String())
	}
}

// tellsChanges: a running container sees what the pod's annotations or labels are changed to (CS-021, CS-022, CS-057, CS-058).
func tellsChanges(projected bool, which string) func(*row) {
	return func(r *row) {
		file := "/etc/podinfo/" + which
		ns := r.namespace()
		pod := looker("reader", true, "content:"+file)
		pod.Labels, pod.Annotations = map[string]string{"key1": "value1"}, map[string]string{"key1": "value1"}
		mount(pod, "/etc/podinfo", downward(projected, nil, fieldFile(which, "metadata."+which)))
		r.reaches(ns, pod, corev1.PodRunning)
		r.heardOf(ns, file, `key1="value1"`)
		_, err := r.kube.CoreV1().Pods(ns).Patch(r.ctx, "reader", types.MergePatchType,
			[]byte(`{"metadata":{"`+which+`":{"key1":"value2","key3":"value3"}}}`), metav1.PatchOptions{})
		r.must(err, "changing the pod's "+which)
		r.heardOf(ns, file, `key1="value2"`)
		r.heardOf(ns, file, `key3="value3"`)
	}
}

// heardOf waits until a line that the reader has said of the file ends so, or begins so: there may be more in it than the row has put there.
func (r *row) heardOf(ns, file, want string) {
	r.Helper()
	r.eventually("the reader sees "+want+" in "+file, func() (bool, error) {
		log := r.logs(ns, "reader")
		for line := range strings.Lines(log) {
			if strings.TrimSpace(strings.TrimPrefix(line, "content of "+file+": ")) == want {
				return true, nil
			}
		}
		return false, fmt.Errorf("it said %q", log)
	})
}
