package server

import (
	"encoding/json"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pods answers with the pods of this node as the kubelet knows them.
func (s *Server) pods(w http.ResponseWriter, _ *http.Request) error {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range s.parts.Pods.Pods() {
		list.Items = append(list.Items, *p)
	}
	return writeJSON(w, list)
}

// summary answers with the numbers of node and pods.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) error {
	sum, err := s.parts.Stats.Summary(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, sum)
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
