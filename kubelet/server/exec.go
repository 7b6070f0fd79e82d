package server

import (
	"net/http"

	"github.com/gorilla/mux"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/streaming"
)

// exec runs a command in a container.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) error {
	id, err := s.running(r)
	if err != nil {
		return err
	}
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		return fail(http.StatusBadRequest, "you must specify a command")
	}
	if err := s.parts.Streams.Exec(w, r, id, command); err != nil {
		return fail(http.StatusBadRequest, "%s", err)
	}
	return nil
}

// attach joins the streams of a container.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) error {
	id, err := s.running(r)
	if err != nil {
		return err
	}
	if err := s.parts.Streams.Attach(w, r, id); err != nil {
		return fail(http.StatusBadRequest, "%s", err)
	}
	return nil
}

// running finds the container that the path names; it must run. The errors are worded as clients know them from upstream's kubelet.
func (s *Server) running(r *http.Request) (string, error) {
	v := mux.Vars(r)
	p, err := s.streamed(r)
	if err != nil {
		return "", err
	}
	l, err := s.parts.Runtime.ListPod(r.Context(), string(p.UID))
	if err != nil {
		return "", err
	}
	for _, c := range l.Containers {
		if c.Name == v["container"] && c.State == containers.Running {
			return c.ID, nil
		}
	}
	return "", fail(http.StatusInternalServerError, "container not found (%q)", v["container"])
}

// streamed finds the pod that the path of a stream names.
func (s *Server) streamed(r *http.Request) (*corev1.Pod, error) {
	v := mux.Vars(r)
	p, err := s.pod(v["namespace"], v["pod"], types.UID(v["uid"]))
	if err != nil {
		return nil, fail(http.StatusNotFound, "pod does not exist")
	}
	return p, nil
}

// portForward carries connections to ports of a pod.
func (s *Server) portForward(w http.ResponseWriter, r *http.Request) error {
	p, err := s.streamed(r)
	if err != nil {
		return err
	}
	at := streaming.Place{IPs: s.parts.NodeIPs}
	if !p.Spec.HostNetwork {
		if at, err = s.place(r, p); err != nil {
			return err
		}
	}
	if err := s.parts.Streams.PortForward(w, r, at); err != nil {
		return fail(http.StatusBadRequest, "%s", err)
	}
	return nil
}

// place finds the network that a pod has of its own.
func (s *Server) place(r *http.Request, p *corev1.Pod) (streaming.Place, error) {
	l, err := s.parts.Runtime.ListPod(r.Context(), string(p.UID))
	if err != nil {
		return streaming.Place{}, err
	}
	for _, box := range l.Sandboxes {
		if box.Ready && box.NetNS != "" {
			return streaming.Place{NetNS: box.NetNS, IPs: box.IPs}, nil
		}
	}
	return streaming.Place{}, fail(http.StatusInternalServerError, "pod not found (%q)", p.Name+"_"+p.Namespace)
}
