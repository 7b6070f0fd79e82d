package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/localvolume"
)

// volumesDir is where claims are kept, by all nodes: they are one machine. It goes with the cluster's folder.
func (c *cluster) volumesDir() string { return c.path("volumes") }

// storageClass makes the class of claims that name none: folders of the node on which their first pod runs, of any size. What an administrator has
// made of it stays.
func (c *cluster) storageClass(ctx context.Context) error {
	cfg, err := client.Load(c.kubeconfigOf(superAdmin), "cluster")
	if err != nil {
		return err
	}
	clients, err := client.New(cfg)
	if err != nil {
		return err
	}
	reclaim, binding, grows := corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingWaitForFirstConsumer, true
	_, err = clients.Kube.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "local-path",
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: localvolume.Provisioner, ReclaimPolicy: &reclaim, VolumeBindingMode: &binding, AllowVolumeExpansion: &grows,
	}, metav1.CreateOptions{})
	return unlessThere(err, "making the default storage class")
}
