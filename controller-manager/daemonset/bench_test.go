package daemonset

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkLook is one look at a DaemonSet on 1,000 nodes where nothing is to be done: what each change of one of its pods costs.
func BenchmarkLook(b *testing.B) {
	list := nodes(1000)
	rev := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "new"}}
	var pods []*corev1.Pod
	for _, n := range list {
		pods = append(pods, podFor(daemon(), "new", n.Name))
		pods[len(pods)-1].Name = fmt.Sprint("p", len(pods))
	}
	ds := daemon()
	b.ReportAllocs()
	for b.Loop() {
		s := look(ds, rev, list, pods)
		s.now = start
		if p := decide(s); len(p.create)+len(p.remove) > 0 {
			b.Fatalf("%+v", p)
		}
		nextStatus(s)
	}
}
