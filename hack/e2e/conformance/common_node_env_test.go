package conformance

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Rows about what a container is started with: its command, arguments and environment.

// outputs ends the test unless a pod of these steps says all of that when it has succeeded.
func (r *row) outputs(ns string, pod *corev1.Pod, want ...string) *corev1.Pod {
	r.Helper()
	got := r.reaches(ns, pod, corev1.PodSucceeded)
	said := strings.Split(strings.TrimSpace(r.logs(ns, pod.Name)), "\n")
	for _, w := range want {
		if !slices.Contains(said, w) {
			r.Errorf("pod %s did not say %q but %q", pod.Name, w, said)
		}
	}
	return got
}

// withEnv gives the pod's container variables.
func withEnv(pod *corev1.Pod, env ...corev1.EnvVar) *corev1.Pod {
	pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, env...)
	return pod
}

func valued(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }

func fromField(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

// settings makes a ConfigMap and a Secret of the same name with the same data.
func (r *row) settings(ns, name string, data map[string]string) {
	r.Helper()
	_, err := r.kube.CoreV1().ConfigMaps(ns).Create(r.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
	r.must(err, "creating a ConfigMap")
	_, err = r.kube.CoreV1().Secrets(ns).Create(r.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}, metav1.CreateOptions{})
	r.must(err, "creating a Secret")
}

// envFrom takes a whole ConfigMap or Secret.
func envFrom(secret bool, name, prefix string) corev1.EnvFromSource {
	ref := corev1.LocalObjectReference{Name: name}
	if secret {
		return corev1.EnvFromSource{Prefix: prefix, SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref}}
	}
	return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}}
}

// CN-003, CN-084: all keys of a ConfigMap or of a Secret as variables, with a prefix and without.
func envOfAllKeys(secret bool) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		r.settings(ns, "data", map[string]string{"data_1": "value-1", "data_2": "value-2", "data_3": "value-3"})
		pod := doer("reader", "env=")
		pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{envFrom(secret, "data", ""), envFrom(secret, "data", "p_")}
		r.outputs(ns, pod, "data_1=value-1", "data_2=value-2", "data_3=value-3", "p_data_1=value-1", "p_data_2=value-2", "p_data_3=value-3")
	}
}

// CN-001, CN-082: prefixes, and keys, of which not every shell would make a variable.
func envOfOddNames(secret bool) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		r.settings(ns, "data", map[string]string{"data_1": "value-1", "data-2": "value-2", "data.3": "value-3", "1data": "value-4"})
		pod := doer("reader", "env=")
		for _, prefix := range []string{"", "p_", "p-", "p.", "1-", "$_-"} {
			pod.Spec.Containers[0].EnvFrom = append(pod.Spec.Containers[0].EnvFrom, envFrom(secret, "data", prefix))
		}
		var want []string
		for _, prefix := range []string{"", "p_", "p-", "p.", "1-", "$_-"} {
			want = append(want, prefix+"data_1=value-1", prefix+"data-2=value-2", prefix+"data.3=value-3", prefix+"1data=value-4")
		}
		r.outputs(ns, pod, want...)
	}
}

// CN-002, CN-083: one key.
func envOfKey(secret bool) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		r.settings(ns, "data", map[string]string{"data-1": "value-1", "data-2": "value-2"})
		ref, from := corev1.LocalObjectReference{Name: "data"}, &corev1.EnvVarSource{}
		if secret {
			from.SecretKeyRef = &corev1.SecretKeySelector{LocalObjectReference: ref, Key: "data-1"}
		} else {
			from.ConfigMapKeyRef = &corev1.ConfigMapKeySelector{LocalObjectReference: ref, Key: "data-1"}
		}
		r.outputs(ns, withEnv(doer("reader", "env=DATA"), corev1.EnvVar{Name: "DATA_1", ValueFrom: from}), "DATA_1=value-1")
	}
}

// commanded is a row of a container with a command and arguments of its own, or without: the image's are /testapp and serve.
func commanded(command, args []string, want string) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		pod := application("commanded", args...)
		pod.Spec.Containers[0].Command = command
		r.outputs(ns, pod, want)
	}
}

// CN-020: neither command nor arguments: the image's serve.
func imageDefaults(r *row) {
	ns := r.namespace()
	r.reaches(ns, application("plain"), corev1.PodRunning)
	r.eventually("the image's own command serves", func() (bool, error) {
		return strings.HasPrefix(r.logs(ns, "plain"), "serving on "), nil
	})
}

// CN-023 and CN-024: the addresses of the node.
func envOfHostIP(field string) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		got := r.reaches(ns, withEnv(doer("addressed", "env=HOST="), fromField("HOST", field)), corev1.PodSucceeded)
		list := strings.Split(strings.TrimPrefix(strings.TrimSpace(r.logs(ns, "addressed")), "HOST="), ",")
		for i, text := range list {
			ip, err := netip.ParseAddr(text)
			r.must(err, "reading the address of the node")
			r.equal("address of the node", ip.String(), got.Status.HostIPs[i].IP)
		}
	}
}

// CN-025
func envOfUID(r *row) {
	ns := r.namespace()
	got := r.reaches(ns, withEnv(doer("known", "env=POD_UID"), fromField("POD_UID", "metadata.uid")), corev1.PodSucceeded)
	r.equal("what it says", strings.TrimSpace(r.logs(ns, "known")), "POD_UID="+string(got.UID))
}

// CN-026
func envOfPod(r *row) {
	ns := r.namespace()
	got := r.reaches(ns, withEnv(doer("named", "env=POD_"), fromField("POD_NAME", "metadata.name"), fromField("POD_NAMESPACE", "metadata.namespace"),
		fromField("POD_IP", "status.podIP")), corev1.PodSucceeded)
	r.equal("what it says", strings.Fields(r.logs(ns, "named")), []string{"POD_IP=" + got.Status.PodIP, "POD_NAME=named", "POD_NAMESPACE=" + ns})
}

// CN-029
func envOfEnv(r *row) {
	ns := r.namespace()
	r.outputs(ns, withEnv(doer("composed", "env="), valued("FOO", "foo-value"), valued("BAR", "bar-value"), valued("FOOBAR", "$(FOO);;$(BAR)")),
		"FOO=foo-value", "BAR=bar-value", "FOOBAR=foo-value;;bar-value")
}

// CN-030
func argsOfEnv(r *row) {
	ns := r.namespace()
	r.outputs(ns, withEnv(doer("composed", "args", "print=$(TEST_VAR)", "print=$$(TEST_VAR)"), valued("TEST_VAR", "test-value")), "test-value", "$(TEST_VAR)")
}

// CN-031
func commandOfEnv(r *row) {
	ns := r.namespace()
	pod := withEnv(application("composed"), valued("TEST_VAR", "test-value"))
	pod.Spec.Containers[0].Command = []string{"/testapp", "do", "print=$(TEST_VAR)"}
	r.outputs(ns, pod, "test-value")
}

// sharedPod is one whose container has an emptyDir twice: whole at /whole, and below the sub path at /part.
func sharedPod(pod *corev1.Pod, sub string) *corev1.Pod {
	pod.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/part", SubPathExpr: sub}, {Name: "work", MountPath: "/whole"}}
	return pod
}

// CN-032: the sub path of a mount has the pod's name in it.
func subPathOfEnv(r *row) {
	ns := r.namespace()
	pod := withEnv(doer("foo", "write=/part/file=here", "read=/whole/foo/file"), fromField("POD_NAME", "metadata.name"))
	r.outputs(ns, sharedPod(pod, "$(POD_NAME)"), "here")
}

// badSubPath is a row of a pod whose sub path must not be followed: it does not start.
func badSubPath(value, message string) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		pod := withEnv(doer("strayed", "list=/part"), valued("POD_NAME", value))
		r.podIs(ns, sharedPod(pod, "$(POD_NAME)"), "says why it does not start", func(p *corev1.Pod) bool {
			if p.Status.Phase != corev1.PodPending {
				r.Fatalf("pod strayed is %s", p.Status.Phase)
			}
			if len(p.Status.ContainerStatuses) == 0 {
				return false
			}
			w := p.Status.ContainerStatuses[0].State.Waiting
			return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, message)
		})
	}
}

// CN-035: what is written below a sub path made of an annotation is in the volume, also after the annotation has changed; CN-036: a pod whose sub
// path cannot be made starts when its annotation has come.
func subPathOfAnnotation(late bool) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		pod := withEnv(doer("annotated", "write=/part/test.log=here", "read=/whole/mypath/annotated/test.log", "print=", "pause"),
			fromField("POD_NAME", "metadata.name"), fromField("ANNOTATION", "metadata.annotations['mysubpath']"))
		sharedPod(pod, "$(ANNOTATION)/$(POD_NAME)")
		annotate := func(value string) {
			_, err := r.kube.CoreV1().Pods(ns).Patch(r.ctx, "annotated", types.MergePatchType,
				[]byte(`{"metadata":{"annotations":{"mysubpath":"`+value+`"}}}`), metav1.PatchOptions{})
			r.must(err, "annotating")
		}
		if late {
			pod.Annotations = map[string]string{"mysubpath": "/absolute"}
			r.podIs(ns, pod, "says why it does not start", func(p *corev1.Pod) bool {
				return p.Status.Phase == corev1.PodPending && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
					p.Status.ContainerStatuses[0].State.Waiting.Reason == "CreateContainerConfigError"
			})
			annotate("mypath")
			r.becomes(ns, "annotated", "runs", inPhase(corev1.PodRunning))
		} else {
			pod.Annotations = map[string]string{"mysubpath": "mypath"}
			r.reaches(ns, pod, corev1.PodRunning)
			annotate("another")
		}
		r.eventually("it wrote", func() (bool, error) { return strings.TrimSpace(r.logs(ns, "annotated")) == "here", nil })
		r.stays(ns, "annotated", "running", settled, func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodRunning && p.Status.ContainerStatuses[0].RestartCount == 0
		})
		r.must(r.kube.CoreV1().Pods(ns).Delete(r.ctx, "annotated", metav1.DeleteOptions{}), "deleting")
		r.podGone(ns, "annotated")
	}
}
