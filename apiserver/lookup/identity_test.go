package lookup

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/codec"
)

// Of what a token depends on, the revision and the metadata are read without the rest.
func TestRevisionAndMeta(t *testing.T) {
	now := metav1.Now().Rfc3339Copy()
	l := cluster(t, map[string][]codec.Object{"serviceaccounts": {
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "a-uid", DeletionTimestamp: &now}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b", UID: "b-uid"}},
	}})
	one, err := l.Revision(t.Context(), "serviceaccounts", "ns", "a")
	if err != nil || one == 0 {
		t.Fatalf("%d, %v", one, err)
	}
	if two, err := l.Revision(t.Context(), "serviceaccounts", "ns", "b"); err != nil || two == one {
		t.Errorf("%d beside %d, %v", two, one, err)
	}
	m, err := l.Meta(t.Context(), "serviceaccounts", "ns", "a")
	if err != nil || m.UID != "a-uid" || m.Name != "a" || !m.DeletionTimestamp.Equal(&now) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, c := range [][3]string{{"serviceaccounts", "ns", "c"}, {"serviceaccounts", "other", "a"}, {"pods", "ns", "a"}} {
		if _, err := l.Revision(t.Context(), c[0], c[1], c[2]); !apierrors.IsNotFound(err) {
			t.Errorf("%v: %v", c, err)
		}
		if _, err := l.Meta(t.Context(), c[0], c[1], c[2]); !apierrors.IsNotFound(err) {
			t.Errorf("%v: %v", c, err)
		}
	}
}
