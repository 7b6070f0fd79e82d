package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"pilothouse.dev/kubelet/containers"
)

// pods answers with the pods of this node as the kubelet knows them.
func (s *Server) pods(w http.ResponseWriter, _ *http.Request) error {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range s.parts.Pods.Pods() {
		list.Items = append(list.Items, *p)
	}
	return writeJSON(w, list)
}

// runningPods answers with what containerd runs, whoever wishes for it.
func (s *Server) runningPods(w http.ResponseWriter, r *http.Request) error {
	l, err := s.parts.Runtime.List(r.Context())
	if err != nil {
		return err
	}
	boxes := map[string]containers.Sandbox{}
	for _, b := range l.Sandboxes {
		boxes[b.PodUID] = b
	}
	pods := map[string]*corev1.Pod{}
	for _, c := range l.Containers {
		if c.State != containers.Running {
			continue
		}
		p := pods[c.PodUID]
		if p == nil {
			p = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: boxes[c.PodUID].PodName, Namespace: boxes[c.PodUID].PodNamespace, UID: types.UID(c.PodUID)}}
			pods[c.PodUID] = p
		}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c.Name, Image: c.Image})
	}
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range pods {
		list.Items = append(list.Items, *p)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return writeJSON(w, list)
}

// configz answers with the configuration in force.
func (s *Server) configz(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.parts.Configz())
}

// summary answers with the numbers of node and pods; only_cpu_and_memory=true leaves the rest out.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) error {
	sum, err := s.parts.Stats.Summary(r.Context())
	if err != nil {
		return err
	}
	if truth(r.URL.Query().Get("only_cpu_and_memory")) {
		brief(sum)
	}
	return writeJSON(w, sum)
}

// containers answers with the numbers of containers as cAdvisor names them.
func (s *Server) containers(w http.ResponseWriter, r *http.Request) error {
	out := &text{w: w}
	if err := s.parts.Stats.WriteContainers(r.Context(), out); err != nil && !out.wrote {
		return err
	}
	return nil // or too late for an error: a client that went away needs none
}

// text is a page of metrics; its head is sent with the first of it, so that an error can still be told before.
type text struct {
	w     http.ResponseWriter
	wrote bool
}

func (t *text) Write(b []byte) (int, error) {
	if !t.wrote {
		t.wrote = true
		t.w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	}
	return t.w.Write(b)
}

// brief leaves of a summary what autoscalers read.
func brief(sum *statsv1.Summary) {
	n := sum.Node
	sum.Node = statsv1.NodeStats{NodeName: n.NodeName, StartTime: n.StartTime, CPU: n.CPU, Memory: n.Memory}
	for i, p := range sum.Pods {
		short := statsv1.PodStats{PodRef: p.PodRef, StartTime: p.StartTime, CPU: p.CPU, Memory: p.Memory, Containers: []statsv1.ContainerStats{}}
		for _, c := range p.Containers {
			short.Containers = append(short.Containers, statsv1.ContainerStats{Name: c.Name, StartTime: c.StartTime, CPU: c.CPU, Memory: c.Memory})
		}
		sum.Pods[i] = short
	}
}

func writeJSON(w http.ResponseWriter, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(data) // who does not listen to the end has no use for an error
	return nil
}
