package mirror

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

func staticPod(name, uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid),
		Annotations: map[string]string{pod.AnnotationSource: "file", pod.AnnotationHash: uid}}}
}

func mirrorOf(name, hash, phase string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := image(staticPod(name, hash), "n1", "node")
	p.UID, p.Generation, p.Status.Phase = types.UID("m-"+hash), 1, corev1.PodPhase(phase)
	p.Status.ObservedGeneration = 1
	for _, e := range edit {
		e(p)
	}
	return p
}

func TestDecide(t *testing.T) {
	running := func(name, uid string) local {
		return local{staticPod(name, uid), corev1.PodStatus{Phase: corev1.PodRunning}}
	}
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	for _, tc := range []struct {
		name     string
		live     []local
		wished   []string
		complete bool
		mirrors  []*corev1.Pod
		want     string
	}{
		{"none", nil, nil, true, nil, ""},
		{"a new one", []local{running("a", "1")}, []string{"1"}, true, nil, "+a"},
		{"shown", []local{running("a", "1")}, []string{"1"}, true, []*corev1.Pod{mirrorOf("a", "1", "Running")}, ""},
		{"with an old status", []local{running("a", "1")}, []string{"1"}, true, []*corev1.Pod{mirrorOf("a", "1", "Pending")}, "a=Running/1"},
		{"deleted by hand", []local{running("a", "1")}, []string{"1"}, true, []*corev1.Pod{mirrorOf("a", "1", "Running", deleted)}, "-a"},
		{"changed, the old one is ending", []local{running("a", "1")}, []string{"2"}, true, []*corev1.Pod{mirrorOf("a", "1", "Running")}, ""},
		{"changed, the old one has ended", nil, []string{"2"}, true, []*corev1.Pod{mirrorOf("a", "1", "Running")}, "-a"},
		{"changed, the new one runs", []local{running("a", "2")}, []string{"2"}, true, []*corev1.Pod{mirrorOf("a", "1", "Running")}, "-a"},
		{"file gone, pod ending", []local{running("a", "1")}, nil, true, []*corev1.Pod{mirrorOf("a", "1", "Running")}, ""},
		{"file gone, pod gone", nil, nil, true, []*corev1.Pod{mirrorOf("a", "1", "Running")}, "-a"},
		{"just started, not all is read", nil, nil, false, []*corev1.Pod{mirrorOf("a", "1", "Running")}, ""},
		{"just started, its worker has said nothing", nil, []string{"1"}, true, []*corev1.Pod{mirrorOf("a", "1", "Running")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := view{live: tc.live, wished: map[string]bool{}, complete: tc.complete, mirrors: tc.mirrors}
			for _, hash := range tc.wished {
				v.wished[hash] = true
			}
			p, got := decide(v), ""
			for _, m := range p.remove {
				got += "-" + m.Name
			}
			for _, l := range p.write {
				got += fmt.Sprintf("%s=%s/%d", l.pod.Name, l.status.Phase, l.status.ObservedGeneration)
			}
			for _, c := range p.create {
				got += "+" + c.Name
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A mirror is what the admission of nodes lets in.
func TestImage(t *testing.T) {
	m := image(staticPod("a", "1"), "n1", "node")
	owner := m.OwnerReferences[0]
	if m.UID != "" || !pod.Mirror(m) || m.Annotations[pod.AnnotationMirror] != "1" || owner.Kind != "Node" || owner.APIVersion != "v1" || owner.Name != "n1" || owner.UID != "node" ||
		!*owner.Controller || owner.BlockOwnerDeletion != nil || len(m.OwnerReferences) != 1 {
		t.Errorf("the mirror is %+v", m)
	}
}
