package server_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/testcluster"
)

func TestSmoke(t *testing.T) {
	c := testcluster.Start(t)
	l, err := c.Kube.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Items {
		t.Log(n.Name, n.ResourceVersion, n.Status.Phase)
	}
}
