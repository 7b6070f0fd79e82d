package actions

import (
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// log passes GET pods/NAME/log to the kubelet.
func (p Parts) log(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	pod, container, err := target(r, on, i)
	if err != nil {
		return err
	}
	q := url.Values{}
	for _, k := range []string{"follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"} {
		if v := r.URL.Query().Get(k); v != "" {
			q.Set(k, v)
		}
	}
	return p.Kubelets.Serve(w, r, pod.Spec.NodeName, "/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+container, q)
}

// exec passes an exec or attach, which upgrades the connection, to the kubelet.
func (p Parts) exec(verb string) func(http.ResponseWriter, *http.Request, *registry.Resource, *request.Info) error {
	return func(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
		pod, container, err := target(r, on, i)
		if err != nil {
			return err
		}
		q := r.URL.Query()
		q.Del("container")
		return p.Kubelets.Serve(w, r, pod.Spec.NodeName, "/"+verb+"/"+pod.Namespace+"/"+pod.Name+"/"+container, q)
	}
}

// portForward passes a port-forward to the kubelet.
func (p Parts) portForward(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	pod, err := placed(r, on, i)
	if err != nil {
		return err
	}
	return p.Kubelets.Serve(w, r, pod.Spec.NodeName, "/portForward/"+pod.Namespace+"/"+pod.Name, r.URL.Query())
}

// placed reads a pod that must be on a node.
func placed(r *http.Request, on *registry.Resource, i *request.Info) (*corev1.Pod, error) {
	pod, err := pod(r.Context(), on, i)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	return pod, nil
}

// target reads the pod and settles which of its containers is meant.
func target(r *http.Request, on *registry.Resource, i *request.Info) (*corev1.Pod, string, error) {
	pod, err := placed(r, on, i)
	if err != nil {
		return nil, "", err
	}
	var names, inits []string
	known := map[string]bool{}
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
		known[c.Name] = true
	}
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
		known[c.Name] = true
	}
	for _, c := range pod.Spec.EphemeralContainers {
		known[c.Name] = true
	}
	switch name := r.URL.Query().Get("container"); {
	case name == "" && len(names) == 1:
		return pod, names[0], nil
	case name == "" && len(inits) > 0:
		return nil, "", apierrors.NewBadRequest(fmt.Sprintf(
			"a container name must be specified for pod %s, choose one of: %v or one of the init containers: %v", pod.Name, names, inits))
	case name == "":
		return nil, "", apierrors.NewBadRequest(fmt.Sprintf(
			"a container name must be specified for pod %s, choose one of: %v", pod.Name, names))
	case !known[name]:
		return nil, "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	default:
		return pod, name, nil
	}
}
