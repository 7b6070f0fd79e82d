package conformance

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// STO-005: pods with fifty config maps each, five at once on one node, three times over: all of them get all of their volumes.
func manyConfigMaps(r *row) {
	const volumes, pods, rounds = 50, 5, 3
	ns := r.namespace()
	for i := range volumes {
		configMap.put(r, ns, fmt.Sprintf("map-%d", i), map[string]string{"data-1": fmt.Sprintf("value-%d", i)})
	}
	nodes, err := r.kube.CoreV1().Nodes().List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing nodes")
	client := r.kube.CoreV1().Pods(ns)
	for round := range rounds {
		for i := range pods {
			pod := looker(fmt.Sprintf("reader-%d", i), true)
			pod.Spec.NodeName = nodes.Items[0].Name
			for v := range volumes {
				mount(pod, fmt.Sprintf("/etc/config-%d", v), configMap.volume(fmt.Sprintf("map-%d", v), nil, nil,
					corev1.KeyToPath{Key: "data-1", Path: "data-1"}))
				pod.Spec.Containers[0].Args = append(pod.Spec.Containers[0].Args, fmt.Sprintf("content:/etc/config-%d/data-1", v))
			}
			_, err := client.Create(r.ctx, pod, metav1.CreateOptions{})
			r.must(err, "creating "+pod.Name)
		}
		for i := range pods {
			name := fmt.Sprintf("reader-%d", i)
			r.within(2*time.Minute, fmt.Sprintf("%s runs, round %d", name, round), func() (bool, error) {
				p, err := client.Get(r.ctx, name, metav1.GetOptions{})
				if err != nil {
					return false, err
				}
				return p.Status.Phase == corev1.PodRunning, fmt.Errorf("it is %s", p.Status.Phase)
			})
			want := make([]string, 0, volumes)
			for v := range volumes {
				want = append(want, fmt.Sprintf("content of /etc/config-%d/data-1: value-%d", v, v))
			}
			r.heard(ns, name, "c", want...)
		}
		for i := range pods {
			r.must(client.Delete(r.ctx, fmt.Sprintf("reader-%d", i), metav1.DeleteOptions{}), "deleting a pod")
		}
		r.within(patience, "the pods are gone", func() (bool, error) {
			list, err := client.List(r.ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			return len(list.Items) == 0, fmt.Errorf("%d pods", len(list.Items))
		})
	}
}

// STO-006: a secret and a config map of the same name do not get in each other's way.
func wrappedVolumes(r *row) {
	ns := r.namespace()
	configMap.put(r, ns, "same", map[string]string{"data-1": "of a map"})
	secret.put(r, ns, "same", map[string]string{"data-1": "of a secret"})
	pod := looker("reader", false, "content:/etc/map-volume/data-1", "content:/etc/secret-volume/data-1")
	mount(pod, "/etc/secret-volume", secret.volume("same", nil, nil))
	mount(pod, "/etc/map-volume", configMap.volume("same", nil, nil))
	r.says(ns, pod, "content of /etc/map-volume/data-1: of a map", "content of /etc/secret-volume/data-1: of a secret")
}
