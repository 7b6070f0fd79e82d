package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const contentChanges = 50

// contents: a ConfigMap is changed, and a file in a pod's volume says the new. The limit is a watch of the same object: who is told cannot
// know sooner.
func (b *bench) contents(ctx context.Context, w *podWatch, _ *rawRuntime) error {
	const name = "content"
	maps := b.clients.Kube.CoreV1().ConfigMaps("default")
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"key": "0"}}
	if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating a config map: %w", err)
	}
	made, err := b.clients.Kube.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: ptr.To(int64(1)),
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}},
			Containers: []corev1.Container{{Name: "c", Image: podImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{"pause"},
				VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/content"}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating pod %s: %w", name, err)
	}
	if _, err := w.running(ctx, name); err != nil {
		return err
	}
	// The container's mount is this very folder, so it sees what we see.
	file := filepath.Join(b.dir, "nodes", "node1", "kubelet", "pods", string(made.UID), "volumes", "configmap", "v", "key")
	var shown, told samples
	for i := range contentChanges {
		object.Data["key"] = strconv.Itoa(i + 1)
		watched, err := maps.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: "0"})
		if err != nil {
			return fmt.Errorf("watching the config map: %w", err)
		}
		<-watched.ResultChan() // as it is
		seen := make(chan time.Time, 1)
		go func() {
			<-watched.ResultChan()
			seen <- time.Now()
		}()
		began := time.Now()
		if _, err := maps.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("changing the config map: %w", err)
		}
		if err := says(ctx, file, object.Data["key"]); err != nil {
			return err
		}
		shown = append(shown, time.Since(began))
		told = append(told, (<-seen).Sub(began))
		watched.Stop()
	}
	b.ratio("a ConfigMap changes → its file in the volume says so", "1 s", shown, told)
	if err := b.deletePod(ctx, w, name); err != nil {
		return err
	}
	return maps.Delete(ctx, name, metav1.DeleteOptions{})
}

// says waits until a file holds the text.
func says(ctx context.Context, file, text string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		got, err := os.ReadFile(file)
		if err == nil && string(got) == text {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to hold %q, it holds %q: %w", file, text, got, ctx.Err())
		case <-time.After(500 * time.Microsecond):
		}
	}
}
