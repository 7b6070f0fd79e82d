package storageversionmigration

import (
	"encoding/json"
	"errors"
	"fmt"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// reasons are those of the conditions.
var reasons = map[storagemigrationv1.MigrationConditionType]string{
	storagemigrationv1.MigrationRunning:   "StorageVersionMigrationInProgress",
	storagemigrationv1.MigrationSucceeded: "StorageVersionMigrationSucceeded",
	storagemigrationv1.MigrationFailed:    "StorageVersionMigrationFailed",
}

func say(m *storagemigrationv1.StorageVersionMigration, what storagemigrationv1.MigrationConditionType, status metav1.ConditionStatus, message string) {
	meta.SetStatusCondition(&m.Status.Conditions, metav1.Condition{Type: string(what), Status: status, Reason: reasons[what], Message: message})
}

func is(m *storagemigrationv1.StorageVersionMigration, what storagemigrationv1.MigrationConditionType) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, string(what))
}

// over says whether a migration has ended.
func over(m *storagemigrationv1.StorageVersionMigration) bool {
	return is(m, storagemigrationv1.MigrationSucceeded) || is(m, storagemigrationv1.MigrationFailed)
}

// turn says whether a migration that is not over may run now: it does already, or it is the first of those of its resource and none
// does.
func turn(m *storagemigrationv1.StorageVersionMigration, all []*storagemigrationv1.StorageVersionMigration) bool {
	if is(m, storagemigrationv1.MigrationRunning) {
		return true
	}
	for _, o := range all {
		switch {
		case o.Name == m.Name || o.Spec.Resource != m.Spec.Resource || over(o):
		case is(o, storagemigrationv1.MigrationRunning):
			return false
		case o.CreationTimestamp.Before(&m.CreationTimestamp), o.CreationTimestamp.Equal(&m.CreationTimestamp) && o.Name < m.Name:
			return false
		}
	}
	return true
}

// newer says whether an object was written after a version; one that cannot be compared was not.
func newer(of, than string) bool {
	c, err := resourceversion.CompareResourceVersion(of, than)
	return err == nil && c > 0
}

// same is a merge patch that changes nothing, of this very object and only as it is: whoever writes it stores it anew.
func same(o *metav1.PartialObjectMetadata) ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": o.UID, "resourceVersion": o.ResourceVersion}})
}

// passes says whether a write that failed may succeed later.
func passes(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) { // no answer at all
		return true
	}
	_, wait := apierrors.SuggestsClientDelay(err)
	return wait || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsUnauthorized(err)
}

// failures are objects that cannot be written.
type failures struct {
	count int
	first string
}

func (f *failures) add(o *metav1.PartialObjectMetadata, err error) {
	if f.count++; f.count == 1 {
		name := o.Name
		if o.Namespace != "" {
			name = o.Namespace + "/" + name
		}
		f.first = fmt.Sprintf("%s: %v", name, err)
	}
}

const longest = 1024 // characters that a condition quotes of an error

func (f *failures) message() string {
	first := []rune(f.first)
	return fmt.Sprintf("migration encountered unhandled error: %d objects could not be written, the first is %s", f.count, string(first[:min(len(first), longest)]))
}
