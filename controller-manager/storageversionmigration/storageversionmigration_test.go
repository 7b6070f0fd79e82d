package storageversionmigration

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func migration(name, resource string, age int, conditions ...storagemigrationv1.MigrationConditionType) *storagemigrationv1.StorageVersionMigration {
	m := &storagemigrationv1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(int64(1000-age), 0)}}
	m.Spec.Resource = metav1.GroupResource{Group: "g", Resource: resource}
	for _, c := range conditions {
		say(m, c, metav1.ConditionTrue, "")
	}
	return m
}

func TestTurn(t *testing.T) {
	const running, done, failed = storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationSucceeded, storagemigrationv1.MigrationFailed
	me := migration("m", "a", 5)
	for _, c := range []struct {
		name  string
		me    *storagemigrationv1.StorageVersionMigration
		other *storagemigrationv1.StorageVersionMigration
		want  bool
	}{
		{"alone", me, me, true},
		{"before a younger one", me, migration("a", "a", 4), true},
		{"after an older one", me, migration("z", "a", 6), false},
		{"before a later name of the same age", me, migration("n", "a", 5), true},
		{"after an earlier name of the same age", me, migration("l", "a", 5), false},
		{"beside another resource's", me, migration("a", "b", 9), true},
		{"when the older one has ended well", me, migration("a", "a", 9, done), true},
		{"or badly", me, migration("a", "a", 9, failed), true},
		{"not while a younger one runs", me, migration("a", "a", 1, running), false},
		{"running already", migration("m", "a", 1, running), migration("a", "a", 9), true},
	} {
		if got := turn(c.me, []*storagemigrationv1.StorageVersionMigration{c.me, c.other}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if over(me) || !over(migration("m", "a", 1, done)) || !over(migration("m", "a", 1, failed)) || over(migration("m", "a", 1, running)) {
		t.Error("what is over is not known")
	}
	say(me, running, metav1.ConditionTrue, "")
	if c := meta.FindStatusCondition(me.Status.Conditions, "Running"); c.Reason != "StorageVersionMigrationInProgress" || c.LastTransitionTime.IsZero() {
		t.Errorf("says %+v", c)
	}
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		of, than string
		want     bool
	}{{"5", "4", true}, {"5", "5", false}, {"10", "9", true}, {"9", "10", false}, {"", "5", false}, {"5", "", false}, {"odd", "5", false}} {
		if got := newer(c.of, c.than); got != c.want {
			t.Errorf("%q is newer than %q: %v", c.of, c.than, got)
		}
	}
}

func TestPasses(t *testing.T) {
	gr := schema.GroupResource{Resource: "pods"}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("connection refused"), true},
		{apierrors.NewTooManyRequests("later", 1), true},
		{apierrors.NewServerTimeout(gr, "patch", 1), true},
		{apierrors.NewServiceUnavailable("no"), true},
		{apierrors.NewInternalError(errors.New("a webhook is away")), true},
		{fmt.Errorf("writing: %w", apierrors.NewTimeoutError("slow", 1)), true},
		{apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil), false},
		{apierrors.NewForbidden(gr, "p", errors.New("no")), false},
		{apierrors.NewBadRequest("no"), false},
	} {
		if got := passes(c.err); got != c.want {
			t.Errorf("%v passes: %v", c.err, got)
		}
	}
}

func TestFailures(t *testing.T) {
	var f failures
	f.add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}}, errors.New(strings.Repeat("ä", 3000)))
	f.add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, errors.New("b"))
	if m := f.message(); !strings.HasPrefix(m, "migration encountered unhandled error: 2 objects could not be written, the first is ns/a: ää") || len(m) > 32768 || strings.Contains(m, "�") {
		t.Errorf("says %q", m)
	}
}

func TestSame(t *testing.T) {
	patch, err := same(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u", ResourceVersion: "7", Labels: map[string]string{"x": "y"}}})
	if want := `{"metadata":{"resourceVersion":"7","uid":"u"}}`; err != nil || string(patch) != want {
		t.Errorf("%s, %v", patch, err)
	}
}

// A definition is told once, and lists one stored version only when it is what it was when its migration began.
func TestDefinition(t *testing.T) {
	d := &unstructured.Unstructured{}
	text := `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"a.g","uid":"u","resourceVersion":"3","generation":4},
		"spec":{"versions":[{"name":"v1","storage":false},{"name":"v2","storage":true}]},
		"status":{"storedVersions":["v1","v2"],"conditions":[{"type":"Established","status":"True"}]}}`
	if err := json.Unmarshal([]byte(text), &d.Object); err != nil {
		t.Fatal(err)
	}
	d.SetGeneration(4) // as int64, as the client reads it
	if storedIn(d) != "v2" || conditionOf(d) != nil {
		t.Fatalf("read as %v", d.Object)
	}
	nothing, err := statusPatch(d, func(*unstructured.Unstructured) error { return nil })
	if err != nil || nothing != nil {
		t.Errorf("no change is %s, %v", nothing, err)
	}
	patch, err := statusPatch(d, func(d *unstructured.Unstructured) error { return setCondition(d, "True", "MigrationRunning", "m") })
	if err != nil || !strings.Contains(string(patch), `"resourceVersion":"3"`) || !strings.Contains(string(patch), `"Established"`) || !strings.Contains(string(patch), `"observedGeneration":4`) {
		t.Errorf("patch %s, %v", patch, err)
	}
	if conditionOf(d) != nil {
		t.Error("the object itself was changed")
	}
	for range 2 {
		if err := setCondition(d, "True", "MigrationRunning", "m"); err != nil {
			t.Fatal(err)
		}
	}
	all, _, err := unstructured.NestedSlice(d.Object, "status", "conditions")
	if err != nil || len(all) != 2 || observed(conditionOf(d)) != 4 {
		t.Errorf("conditions %v, %v", all, err)
	}
	at, _ := conditionOf(d)["lastTransitionTime"].(string)
	if _, err := time.Parse(time.RFC3339, at); err != nil {
		t.Errorf("the time is %v", at)
	}
}
