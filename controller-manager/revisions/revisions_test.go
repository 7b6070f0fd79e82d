package revisions

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation"
)

var kind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

func template(image string) *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
	}
}

func made(t *testing.T, image string, number int64) *appsv1.ControllerRevision {
	t.Helper()
	r, err := Make(Wish{Owner: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u"}}, Kind: kind,
		Template: template(image), HashLabel: "hash"})
	if err != nil {
		t.Fatal(err)
	}
	r.Revision = number
	return r
}

// What kubectl does with the data of a revision gives the old template back, and nothing of the new one stays.
func TestDataIsAPatch(t *testing.T) {
	now := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: *template("new"), MinReadySeconds: 7}}
	now.Spec.Template.Spec.Containers = append(now.Spec.Template.Spec.Containers, corev1.Container{Name: "second"})
	now.Spec.Template.Labels["added"] = "yes"
	before, err := json.Marshal(now)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, made(t, "old", 1).Data.Raw, appsv1.DaemonSet{})
	if err != nil {
		t.Fatal(err)
	}
	if s := string(after); strings.Contains(s, "second") || strings.Contains(s, "added") || !strings.Contains(s, `"old"`) || !strings.Contains(s, `"minReadySeconds":7`) {
		t.Errorf("patched to %s", s)
	}
}

func TestRevisions(t *testing.T) {
	a, b := made(t, "a", 1), made(t, "b", 2)
	if a.Name == b.Name || a.Labels["hash"] == "" || !strings.HasSuffix(a.Name, a.Labels["hash"]) || a.Labels["app"] != "web" {
		t.Errorf("%s %v and %s", a.Name, a.Labels, b.Name)
	}
	again := made(t, "a", 0)
	again.Data.Raw = []byte(strings.Replace(string(again.Data.Raw), `{"spec":`, `{ "spec": `, 1))
	all := []*appsv1.ControllerRevision{b, a}
	Sort(all)
	if all[0] != a || Find(all, again) != a || Find(all, made(t, "c", 0)) != nil || Next(all) != 3 || Next(nil) != 1 {
		t.Error("not found, or not in order")
	}
	if one := int32(1); hashOf(a.Data.Raw, &one) == hashOf(a.Data.Raw, nil) {
		t.Error("a collision leads to the same name")
	}
}

func TestACutNameIsAName(t *testing.T) {
	for _, name := range []string{strings.Repeat("a", 253), strings.Repeat("a", 222) + "." + strings.Repeat("b", 30)} {
		r, err := Make(Wish{Owner: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u"}}, Kind: kind, Template: template("a"), HashLabel: "hash"})
		if err != nil {
			t.Fatal(err)
		}
		if errs := validation.IsDNS1123Subdomain(r.Name); len(errs) > 0 {
			t.Errorf("%s: %v", r.Name, errs)
		}
	}
}

func TestExcess(t *testing.T) {
	all := []*appsv1.ControllerRevision{made(t, "a", 1), made(t, "b", 2), made(t, "c", 3), made(t, "d", 4)}
	used := map[string]bool{all[0].Name: true, all[3].Name: true}
	if len(Excess(all, used, -1)) != 2 {
		t.Error("a negative limit is not none")
	}
	for limit, want := range []string{all[1].Name + " " + all[2].Name, all[1].Name, ""} {
		var names []string
		for _, r := range Excess(all, used, limit) {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("limit %d: %q, want %q", limit, got, want)
		}
	}
}
