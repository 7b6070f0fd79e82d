// Package rootca puts the authority by which pods trust the API server into every namespace, as the ConfigMap
// kube-root-ca.crt that each pod's token volume carries.
package rootca

import (
	"context"
	"fmt"
	"maps"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
)

const (
	name    = "kube-root-ca.crt"
	file    = "ca.crt"
	note    = "The authority by which pods verify the API server at its addresses inside the cluster; not meant for anything else."
	noteKey = "kubernetes.io/description"
)

type controller struct {
	t          loop.Tools
	path       string
	namespaces corelisters.NamespaceLister
	maps       corelisters.ConfigMapLister // only those of our name
}

// New returns the constructor for an authority's file. It is read at each look, so that a renewed one needs no restart.
func New(path string) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		named := loop.Narrow(t, "configmaps", "metadata.name="+name)
		c := &controller{
			t: t, path: path,
			namespaces: t.Informers.Core().V1().Namespaces().Lister(),
			maps:       corelisters.NewConfigMapLister(named.GetIndexer()),
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "namespaces", Wakes: loop.Self},
				{Resource: "configmaps", Only: named, Wakes: loop.Func("its namespace", func(e loop.Event) []loop.Key {
					return []loop.Key{{Name: e.Last().GetNamespace()}}
				})},
			},
			Reconcile: c.reconcile,
		}
	}
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	ns, err := c.namespaces.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		return 0, err
	}
	have, err := c.maps.ConfigMaps(key.Name).Get(name)
	if apierrors.IsNotFound(err) {
		have = nil
	} else if err != nil {
		return 0, err
	}
	pem, err := os.ReadFile(c.path)
	if err != nil {
		return 0, fmt.Errorf("reading the root authority: %w", err)
	}
	want := next(have, key.Name, string(pem))
	client := c.t.Clients.Kube.CoreV1().ConfigMaps(key.Name)
	if have != nil {
		_, err = loop.Commit(ctx, client, have, want)
		return 0, err
	}
	_, err = client.Create(ctx, want, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	return 0, fmt.Errorf("creating %s: %w", name, err)
}

// next is the ConfigMap as it should be: the authority and nothing else.
func next(have *corev1.ConfigMap, namespace, pem string) *corev1.ConfigMap {
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if have != nil {
		want = have.DeepCopy()
	}
	want.Annotations = maps.Clone(want.Annotations)
	if want.Annotations == nil {
		want.Annotations = map[string]string{}
	}
	want.Annotations[noteKey] = note
	want.Data, want.BinaryData = map[string]string{file: pem}, nil
	return want
}
