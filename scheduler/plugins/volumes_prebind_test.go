package plugins_test

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/plugins"
)

// TestWrittenByAnother is two pods that use one claim and are bound at the same time: what the second would write stands there already,
// which is no failure; anything else that somebody wrote is one.
func TestWrittenByAnother(t *testing.T) {
	for _, tc := range []struct {
		name   string
		class  string // of the claim: hands has the volume v, wait has one made
		claim  *corev1.PersistentVolumeClaim
		volume *corev1.PersistentVolume
		fails  bool
	}{
		{"the same node for the claim", "wait", newClaim("c", "wait", forNode("a")), newVolume("v", "hands", "1Gi"), false},
		{"the claim is bound meanwhile", "wait", newClaim("c", "wait", boundTo("w")), newVolume("v", "hands", "1Gi"), false},
		{"another node for the claim", "wait", newClaim("c", "wait", forNode("b")), newVolume("v", "hands", "1Gi"), true},
		{"something else of the claim", "wait", newClaim("c", "wait"), newVolume("v", "hands", "1Gi"), true},
		{"the volume for the claim", "hands", newClaim("c", "hands"), newVolume("v", "hands", "1Gi", belongsTo("c")), false},
		{"the volume for another claim", "hands", newClaim("c", "hands"), newVolume("v", "hands", "1Gi", belongsTo("d")), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := fake.NewClientset(tc.claim, tc.volume)
			api.PrependReactor("update", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: a.GetResource().Resource}, "x", errors.New("it has been modified"))
			})
			f := informers.NewSharedInformerFactory(nil, 0)
			set := framework.NewSet(plugins.Table, framework.Parts{Kube: api, Informers: f})
			n := newNode("a")
			put(t, f, n.Object, newClass("wait", "p", later), newClass("hands", "kubernetes.io/no-provisioner", later),
				newClaim("c", tc.class), newVolume("v", "hands", "1Gi"))
			p := newPod(claims("c"))
			why, nb := trip(set, p, n)
			if why[0] != "" {
				t.Fatal(why)
			}
			held, st := set.Reserve(nb, p, n)
			if !st.OK() || held == 0 {
				t.Fatalf("holds %v: %v", held, st.Message())
			}
			newer := func(o *corev1.PersistentVolumeClaim) { o.ResourceVersion = "9" }
			put(t, f, newClaim("c", tc.class, boundTo("v"), newer), newVolume("v", "hands", "1Gi", belongsTo("c"), func(v *corev1.PersistentVolume) { v.ResourceVersion = "9" }))
			if st := set.PreBind(t.Context(), held, p, "a"); st.OK() == tc.fails {
				t.Errorf("ends with %q", st.Message())
			}
		})
	}
}
