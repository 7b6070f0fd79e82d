package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers/nodetest"
)

// shut is a registry that serves the test image as shut/app:1 to those who know the password.
func shut(t *testing.T, passwords *atomic.Int64) (host string) {
	manifest, config, layer := nodetest.Blobs(t)
	files := map[string]nodetest.File{"1": manifest, manifest.Digest: manifest, config.Digest: config, layer.Digest: layer}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user != "me" || password != "sesame" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		passwords.Add(1)
		f, ok := files[path.Base(req.URL.Path)]
		if !ok || !strings.HasPrefix(req.URL.Path, "/v2/shut/app/") {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", f.MediaType)
		w.Header().Set("Docker-Content-Digest", f.Digest)
		w.Header().Set("Content-Length", fmt.Sprint(len(f.Data)))
		if req.Method != http.MethodHead {
			if _, err := w.Write(f.Data); err != nil {
				t.Log(err)
			}
		}
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// TestPullImages takes pods with private images through the whole daemon: with a pull secret, with that of their service account, with none, and as
// volumes.
func TestPullImages(t *testing.T) {
	m := newMachine(t)
	kube := m.cluster.Kube
	var opened atomic.Int64
	host := shut(t, &opened)
	m.until("registered", func() (bool, string) { return m.node() != nil, "" })
	m.stop()
	if err := m.cfg.PlainHTTP.Set(host); err != nil {
		t.Fatal(err)
	}
	m.start()
	if _, err := kube.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(`{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	image := host + "/shut/app:1"
	login, err := json.Marshal(map[string]any{"auths": map[string]any{host + "/shut": map[string]string{"username": "me", "password": "sesame"}}})
	if err != nil {
		t.Fatal(err)
	}
	makePod := func(name, secret string, spec corev1.PodSpec) {
		t.Helper()
		spec.NodeName, spec.AutomountServiceAccountToken, spec.TerminationGracePeriodSeconds = nodeName, new(false), new(int64(1))
		if secret != "" {
			spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: secret}}
		}
		if _, err := kube.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	runs := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image, Command: []string{"sleep", "1000"}}}}
	shows := corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: nodetest.Image, Command: []string{"sh", "-c", "cat /v/etc/passwd; touch /v/x; sleep 1000"}, VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
		Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image}}}},
	}
	told := func(pod, reason, words string) {
		t.Helper()
		m.until("told of "+reason+" of "+pod, func() (bool, string) {
			list, err := kube.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			seen := ""
			for _, e := range list.Items {
				if e.InvolvedObject.Name != pod {
					continue
				}
				if e.Reason == reason && strings.Contains(e.Message, words) {
					return true, ""
				}
				seen += "\n" + e.Reason + ": " + e.Message
			}
			return false, seen
		})
	}
	waits := func(pod, reason, words string) {
		t.Helper()
		m.until(pod+" waits because of "+reason, func() (bool, string) {
			p := m.pod(pod)
			if p == nil || len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil {
				return false, tell(p)
			}
			w := p.Status.ContainerStatuses[0].State.Waiting
			return w.Reason == reason && strings.Contains(w.Message, words), w.Reason + ": " + w.Message
		})
	}
	up := func(pod string) {
		t.Helper()
		m.until(pod+" is ready", func() (bool, string) { p := m.pod(pod); return podReady(p), tell(p) })
	}

	// Nobody has the secret yet: the pod is refused, waits, and says so; when it is made, the pod gets in without another word.
	makePod("early", "login", runs)
	waits("early", "ImagePullBackOff", `Back-off pulling image "`+image+`": ErrImagePull: failed to pull and unpack image`)
	told("early", "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (login); attempting to pull the image may not succeed.")
	told("early", "Failed", `Failed to pull image "`+image+`"`)
	told("early", "Failed", "Error: ErrImagePull")
	told("early", "BackOff", `Back-off pulling image "`+image+`"`)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "login"}, Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: login}}
	if _, err := kube.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	up("early")
	told("early", "Pulling", `Pulling image "`+image+`"`)
	told("early", "Pulled", `Successfully pulled image "`+image+`" in `)
	told("early", "Pulled", " including waiting). Image size: ")

	// The image is here now. Who has the secret may use it without asking; who has none may not.
	pulled := opened.Load()
	makePod("second", "login", runs)
	up("second")
	told("second", "Pulled", `Container image "`+image+`" already present on machine and can be accessed by the pod`)
	if opened.Load() != pulled {
		t.Error("the registry was asked again")
	}
	makePod("stranger", "", runs)
	waits("stranger", "ImagePullBackOff", "pull access denied")
	never := *runs.DeepCopy()
	never.Containers[0].ImagePullPolicy = corev1.PullNever
	makePod("never", "", never)
	waits("never", "ErrImageNeverPull", `Container image "`+image+`" is not present with pull policy of Never`)
	odd := *runs.DeepCopy()
	odd.Containers[0].Image = host + "/shut/UPPER:1"
	makePod("odd", "", odd)
	waits("odd", "InvalidImageName", "Failed to apply default image tag")

	// As a volume it is the same; the pod's account brings the secret.
	makePod("no-volume", "", shows)
	waits("no-volume", "ImagePullBackOff", "pull access denied")
	if _, err := kube.CoreV1().ServiceAccounts("default").Patch(t.Context(), "default", types.MergePatchType, []byte(`{"imagePullSecrets":[{"name":"login"}]}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	makePod("volume", "", shows)
	up("volume")
	m.until("read the volume", func() (bool, string) {
		code, text := m.get("caller", "/containerLogs/default/volume/c")
		return code == http.StatusOK && strings.Contains(text, "app:x:1000:1000") && strings.Contains(text, "Read-only file system"), text
	})
	p := m.pod("volume")
	if s := p.Status.ContainerStatuses[0].VolumeMounts; len(s) != 1 || s[0].VolumeStatus == nil || s[0].VolumeStatus.Image == nil || !strings.HasPrefix(s[0].VolumeStatus.Image.ImageRef, host+"/shut/app@sha256:") {
		t.Errorf("mounts of the container are %+v", s)
	}
	m.stop() // a kubelet that comes back finds the volume again, and takes it away with the pod
	m.start()
	for _, name := range []string{"volume", "no-volume", "never", "odd", "stranger", "second", "early"} {
		if err := kube.CoreV1().Pods("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"volume", "no-volume", "early"} {
		m.until(name+" is gone", func() (bool, string) { p := m.pod(name); return p == nil, tell(p) })
	}
	if n := m.node(); len(n.Status.Images) != 2 && len(n.Status.Images) != 1 { // the status is told once a minute
		t.Errorf("images of the node are %+v", n.Status.Images)
	}
}
