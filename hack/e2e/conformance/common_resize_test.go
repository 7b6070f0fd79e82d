package conformance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Rows about what containers and pods ask for and may use, and about changing that while they run.

// sizes reads «cpu request/cpu limit/memory request/memory limit», each may be empty.
func sizes(text string) corev1.ResourceRequirements {
	res := corev1.ResourceRequirements{}
	for i, part := range strings.Split(text, "/") {
		if part == "" {
			continue
		}
		list := []*corev1.ResourceList{&res.Requests, &res.Limits}[i%2]
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[[]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}[i/2]] = resource.MustParse(part)
	}
	return res
}

// ofSizes is a pod with a container of each size, which runs until it is told to end.
func ofSizes(name string, all ...string) *corev1.Pod {
	pod := application(name)
	pod.Spec.Containers = nil
	for i, text := range all {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i+1), Image: "testapp", Args: []string{"do", "pause"}, Resources: sizes(text)})
	}
	return pod
}

// resized says whether all containers have what they should, and nothing is left to do.
func resized(all ...string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
				return false
			}
		}
		for i, cs := range p.Status.ContainerStatuses {
			want := sizes(all[i])
			if cs.State.Running == nil || cs.Resources == nil || !equality.Semantic.DeepEqual(cs.Resources.Requests, want.Requests) ||
				!equality.Semantic.DeepEqual(cs.Resources.Limits, want.Limits) || !equality.Semantic.DeepEqual(cs.AllocatedResources, want.Requests) {
				return false
			}
		}
		return len(p.Status.ContainerStatuses) == len(all)
	}
}

// resize asks for other sizes, by a patch or by replacing.
func (r *row) resize(ns, name string, replace bool, all ...string) {
	r.Helper()
	pods := r.kube.CoreV1().Pods(ns)
	if replace {
		r.again("replacing the resources", func() error {
			p, err := pods.Get(r.ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for i := range p.Spec.Containers {
				p.Spec.Containers[i].Resources = sizes(all[i])
			}
			_, err = pods.UpdateResize(r.ctx, name, p, metav1.UpdateOptions{})
			return err
		})
		return
	}
	var parts []string
	for i, text := range all {
		parts = append(parts, fmt.Sprintf(`{"name":"c%d","resources":%s}`, i+1, asJSON(sizes(text))))
	}
	_, err := pods.Patch(r.ctx, name, types.StrategicMergePatchType, fmt.Appendf(nil, `{"spec":{"containers":[%s]}}`, strings.Join(parts, ",")), metav1.PatchOptions{}, "resize")
	r.must(err, "patching the resources")
}

// resizes is a row in which a pod's containers get other sizes while they run, and, where they can, their first ones again.
func resizes(before, after []string, class corev1.PodQOSClass, replace, back bool) func(*row) {
	return func(r *row) {
		ns, name := r.namespace(), "resizes-"+strconv.Itoa(rand.IntN(1000))
		got := r.podIs(ns, ofSizes(name, before...), "runs with its first sizes", resized(before...))
		r.equal("class", got.Status.QOSClass, class)
		ids := func(p *corev1.Pod) (list []string) {
			for _, cs := range p.Status.ContainerStatuses {
				list = append(list, fmt.Sprint(cs.ContainerID, " restarts ", cs.RestartCount))
			}
			return list
		}
		first := ids(got)
		r.resize(ns, name, replace, after...)
		got = r.becomes(ns, name, "has its other sizes", resized(after...))
		r.equal("containers after the resize", ids(got), first)
		r.equal("class after the resize", got.Status.QOSClass, class)
		r.equal("observed generation", got.Status.ObservedGeneration, got.Generation)
		if back {
			r.resize(ns, name, replace, before...)
			r.equal("containers after the resize back", ids(r.becomes(ns, name, "has its first sizes again", resized(before...))), first)
		}
	}
}

// CN-053: what was not there is added, the rest goes up, down, or stays.
func resizeSix(r *row) {
	resizes(
		[]string{"20m///", "//24Mi/", "20m/30m/24Mi/32Mi", "20m/30m/24Mi/32Mi", "20m/40m/24Mi/48Mi", "///"},
		[]string{"20m/40m//", "//24Mi/48Mi", "10m/20m/24Mi/48Mi", "30m/40m/24Mi/32Mi", "30m/30m/32Mi/48Mi", "10m/30m/24Mi/32Mi"},
		corev1.PodQOSBurstable, false, false)(r)
}

// CN-054: other words for the same, and amounts that come to the same limits of the kernel.
func resizeEquivalent(r *row) {
	resizes([]string{"2m/10m/24Mi/32Mi"}, []string{"1m/5m/24576Ki/32768Ki"}, corev1.PodQOSBurstable, false, true)(r)
}

// envOfSizes asks for a container's own sizes by variables.
func envOfSizes(pod *corev1.Pod) *corev1.Pod {
	for _, name := range []string{"limits.cpu", "limits.memory", "requests.cpu", "requests.memory"} {
		v := corev1.EnvVar{Name: "SIZE_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_")),
			ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: name}}}
		withEnv(pod, v)
	}
	return pod
}

// CN-021
func envOfOwnSizes(r *row) {
	pod := envOfSizes(doer("sized", "env=SIZE_"))
	pod.Spec.Containers[0].Resources = sizes("250m/1250m/32Mi/64Mi")
	r.outputs(r.namespace(), pod, "SIZE_LIMITS_CPU=2", "SIZE_LIMITS_MEMORY=67108864", "SIZE_REQUESTS_CPU=1", "SIZE_REQUESTS_MEMORY=33554432")
}

// CN-022: without limits of its own a container may use what the node has for pods.
func envOfNodeSizes(r *row) {
	ns := r.namespace()
	pod := envOfSizes(doer("unsized", "env=SIZE_LIMITS"))
	got := r.reaches(ns, pod, corev1.PodSucceeded)
	n, err := r.kube.CoreV1().Nodes().Get(r.ctx, got.Spec.NodeName, metav1.GetOptions{})
	r.must(err, "getting the node")
	r.equal("what it says", strings.Fields(r.logs(ns, pod.Name)), []string{
		fmt.Sprintf("SIZE_LIMITS_CPU=%d", n.Status.Allocatable.Cpu().Value()), fmt.Sprintf("SIZE_LIMITS_MEMORY=%d", n.Status.Allocatable.Memory().Value()),
	})
}

// CN-079 and CN-080: a pod of a class is given a node, with what the class says that running it costs.
func scheduledOfClass(size string) func(*row) {
	return func(r *row) {
		overhead := sizes(size).Requests
		class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: r.unique()}, Handler: "test-handler"}
		if overhead != nil {
			class.Overhead = &nodev1.Overhead{PodFixed: overhead}
		}
		_, err := r.kube.NodeV1().RuntimeClasses().Create(r.ctx, class, metav1.CreateOptions{})
		r.must(err, "creating a class")
		r.sweep(r.dyn.Resource(nodev1.SchemeGroupVersion.WithResource("runtimeclasses")), class.Name)
		ns := r.namespace()
		pod := doer("of-class", "pause")
		pod.Spec.RuntimeClassName = &class.Name
		r.eventually("a pod of the class can be made", func() (bool, error) {
			_, err := r.kube.CoreV1().Pods(ns).Create(r.ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil, err
		})
		got := r.podIs(ns, pod, "has a node", func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue
			})
		})
		if !maps.EqualFunc(got.Spec.Overhead, overhead, func(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }) {
			r.Errorf("overhead of the pod: %v, want %v", got.Spec.Overhead, overhead)
		}
	}
}

// NODE-005
func classOfPod(r *row) {
	ns := r.namespace()
	pods := r.kube.CoreV1().Pods(ns)
	for class, text := range map[corev1.PodQOSClass]string{
		corev1.PodQOSGuaranteed: "100m/100m/100Mi/100Mi", corev1.PodQOSBurstable: "100m/200m/100Mi/100Mi", corev1.PodQOSBestEffort: "///",
	} {
		name := strings.ToLower(string(class))
		_, err := pods.Create(r.ctx, ofSizes(name, text), metav1.CreateOptions{})
		r.must(err, "creating a pod")
		got, err := pods.Get(r.ctx, name, metav1.GetOptions{})
		r.must(err, "getting the pod")
		r.equal("class of "+text, got.Status.QOSClass, class)
	}
}
