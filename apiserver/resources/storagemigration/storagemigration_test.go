package storagemigration

import (
	"slices"
	"testing"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func expect(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	if got := brief(errs); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func of(group, resource string) *storagemigrationv1.StorageVersionMigration {
	return &storagemigrationv1.StorageVersionMigration{Spec: storagemigrationv1.StorageVersionMigrationSpec{
		Resource: metav1.GroupResource{Group: group, Resource: resource},
	}}
}

func TestValidate(t *testing.T) {
	expect(t, StorageVersionMigrations.Validate(of("", "pods")))
	expect(t, StorageVersionMigrations.Validate(of("example.com", "things")))
	expect(t, StorageVersionMigrations.Validate(of("Example", "")), "spec.resource.group: Invalid value", "spec.resource.resource: Required value")
	expect(t, StorageVersionMigrations.Validate(of("", "Pods")), "spec.resource.resource: Invalid value")
	expect(t, StorageVersionMigrations.ValidateUpdate(of("", "pods"), of("", "nodes")), "spec: Invalid value")
	if cells := StorageVersionMigrations.Cells(of("example.com", "things")); cells[1] != "things.example.com" {
		t.Errorf("cells: %v", cells)
	}
}

func TestValidateStatus(t *testing.T) {
	with := func(version string, kinds ...string) *storagemigrationv1.StorageVersionMigration {
		m := of("", "pods")
		m.Status.ResourceVersion = version
		for _, k := range kinds {
			m.Status.Conditions = append(m.Status.Conditions, metav1.Condition{Type: k, Status: "True", Reason: "Because", LastTransitionTime: metav1.Now()})
		}
		return m
	}
	for _, c := range []struct {
		name    string
		is, old *storagemigrationv1.StorageVersionMigration
		want    []string
	}{
		{"begins", with("5", "Running"), with(""), nil},
		{"ends", with("5", "Succeeded"), with("5", "Running"), nil},
		{"no number", with("x"), with(""), []string{"status.resourceVersion: Invalid value"}},
		{"another version", with("6"), with("5"), []string{"status.resourceVersion: Invalid value"}},
		{"both", with("5", "Succeeded", "Failed"), with("5"), []string{"status.conditions: Invalid value"}},
		{"all", with("5", "Succeeded", "Failed", "Running"), with("5"),
			[]string{"status.conditions: Invalid value", "status.conditions: Invalid value", "status.conditions: Invalid value"}},
		{"not any more", with("5"), with("5", "Succeeded"), []string{"status.conditions: Invalid value"}},
		{"failed no more", with("5"), with("5", "Failed"), []string{"status.conditions: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, StorageVersionMigrations.ValidateStatus(c.is, c.old), c.want...) })
	}
}
