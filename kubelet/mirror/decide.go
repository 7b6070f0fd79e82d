package mirror

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/pkg/pod"
)

// view is what decide looks at.
type view struct {
	// live are the static pods that a worker tends, also those that are ending, with their newest status.
	live []local
	// wished are the hashes of all static pods that should run; complete: there are no others.
	wished   map[string]bool
	complete bool
	// mirrors are those that the API has for this node.
	mirrors []*corev1.Pod
}

// local is a static pod and how it is.
type local struct {
	pod    *corev1.Pod
	status corev1.PodStatus
}

// plan is what to do: mirrors to delete, static pods to make one for, and statuses to write.
type plan struct {
	remove []*corev1.Pod
	create []*corev1.Pod
	write  []local // the mirror, and the status it should have
}

func fullName(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// decide compares static pods with their mirrors. It is pure. A mirror goes when its pod is gone, was replaced, or when somebody asked for its
// deletion; then a new one is made. As long as an old pod of the name ends, the old mirror shows it.
func decide(v view) plan {
	var out plan
	byName := map[string]local{}
	for _, l := range v.live {
		byName[fullName(l.pod)] = l
	}
	has := map[string]bool{}
	for _, m := range v.mirrors {
		l, live := byName[fullName(m)]
		hash := m.Annotations[pod.AnnotationMirror]
		switch {
		case m.DeletionTimestamp != nil,
			live && hash != string(l.pod.UID),
			!live && v.complete && !v.wished[hash]:
			out.remove = append(out.remove, m)
		case live:
			if st := observed(l.status, m); !equality.Semantic.DeepEqual(*status.WithOthers(&st, &m.Status), m.Status) {
				out.write = append(out.write, local{m, st})
			}
		}
		has[fullName(m)] = true // also while it is being deleted: its name is taken
	}
	for _, l := range v.live {
		if !has[fullName(l.pod)] {
			out.create = append(out.create, l.pod)
		}
	}
	slices.SortFunc(out.create, func(a, b *corev1.Pod) int { return strings.Compare(fullName(a), fullName(b)) })
	return out
}

// observed is the status of a static pod as its mirror has it, whose generation is the API's.
func observed(st corev1.PodStatus, m *corev1.Pod) corev1.PodStatus {
	out := *st.DeepCopy()
	out.ObservedGeneration = m.Generation
	for i := range out.Conditions {
		out.Conditions[i].ObservedGeneration = m.Generation
	}
	return out
}

// image is the mirror of a static pod as it is created.
func image(p *corev1.Pod, node string, uid types.UID) *corev1.Pod {
	m := p.DeepCopy()
	m.UID, m.ResourceVersion, m.Generation, m.CreationTimestamp = "", "", 0, metav1.Time{}
	m.Annotations[pod.AnnotationMirror] = string(p.UID)
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: uid, Controller: new(true)}}
	m.Status = corev1.PodStatus{}
	return m
}
