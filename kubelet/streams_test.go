package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

// throughTheAPI does what kubectl does with a running pod: logs, exec by both protocols, port-forward, all by way of the API server.
func (m *machine) throughTheAPI() {
	t, cfg := m.t, m.cluster.Config("admin", "system:masters")
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text, err := kube.CoreV1().Pods("default").GetLogs("web", &corev1.PodLogOptions{TailLines: new(int64(100)), Timestamps: true}).DoRaw(t.Context())
	if err != nil || !strings.Contains(string(text), "Z hello") {
		t.Errorf("log: %q, %v", text, err)
	}

	target := func(sub string, o *corev1.PodExecOptions) *url.URL {
		return kube.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web").SubResource(sub).VersionedParams(o, scheme.ParameterCodec).URL()
	}
	for _, protocol := range []string{"spdy", "websocket"} {
		dial := func(o *corev1.PodExecOptions) remotecommand.Executor {
			u := target("exec", o)
			var ex remotecommand.Executor
			if protocol == "spdy" {
				ex, err = remotecommand.NewSPDYExecutor(cfg, http.MethodPost, u)
			} else {
				ex, err = remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, u.String())
			}
			if err != nil {
				t.Fatal(err)
			}
			return ex
		}
		var out, errs bytes.Buffer
		ex := dial(&corev1.PodExecOptions{Command: []string{"sh", "-c", "cat; echo oops >&2"}, Stdin: true, Stdout: true, Stderr: true})
		err := ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("through and back"), Stdout: &out, Stderr: &errs})
		if err != nil || out.String() != "through and back" || errs.String() != "oops\n" {
			t.Errorf("exec by %s: %q, %q, %v", protocol, out.String(), errs.String(), err)
		}
		err = dial(&corev1.PodExecOptions{Command: []string{"sh", "-c", "exit 9"}, Stdout: true}).StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
		var code utilexec.CodeExitError
		if !errors.As(err, &code) || code.Code != 9 {
			t.Errorf("exit code by %s: %v", protocol, err)
		}
	}

	transport, upgrader, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u := kube.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web").SubResource("portforward").URL()
	stop, up := make(chan struct{}), make(chan struct{})
	fw, err := portforward.NewOnAddresses(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u), []string{"127.0.0.1"}, []string{"0:80"}, stop, up, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- fw.ForwardPorts() }()
	select {
	case <-up:
	case err := <-done:
		t.Fatalf("port-forward: %v", err)
	}
	ports, err := fw.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", ports[0].Local))
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(page) != "page\n" {
		t.Errorf("through the forwarded port came %q, %v", page, err)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("port-forward ended: %v", err)
	}
}
