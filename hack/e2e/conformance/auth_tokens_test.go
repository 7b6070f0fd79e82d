package conformance

import (
	"encoding/json"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// tokenFolder is where every pod finds its token.
const tokenFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

// application is a pod of the test application.
func application(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{Name: "c", Image: "testapp", Args: args}},
		},
	}
}

// reaches makes a pod and waits until it is in that phase.
func (r *row) reaches(ns string, pod *corev1.Pod, phase corev1.PodPhase) *corev1.Pod {
	r.Helper()
	pods := r.kube.CoreV1().Pods(ns)
	made, err := pods.Create(r.ctx, pod, metav1.CreateOptions{})
	r.must(err, "creating pod "+pod.Name)
	r.eventually(fmt.Sprintf("pod %s is %s", made.Name, phase), func() (bool, error) {
		got, err := pods.Get(r.ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		made = got
		if phase == corev1.PodSucceeded && got.Status.Phase == corev1.PodFailed {
			r.Fatalf("pod %s failed: %s", pod.Name, r.logs(ns, pod.Name))
		}
		if got.Status.Phase != phase {
			return false, fmt.Errorf("it is %s: %s", got.Status.Phase, asJSON(got.Status))
		}
		return true, nil
	})
	return made
}

// logs are what a pod's only container has said.
func (r *row) logs(ns, pod string) string {
	r.Helper()
	b, err := r.kube.CoreV1().Pods(ns).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(r.ctx)
	r.must(err, "reading the log of pod "+pod)
	return string(b)
}

// file reads a file in a serving pod.
func (r *row) file(ns, pod, path string) string {
	r.Helper()
	var b []byte
	r.eventually("pod "+pod+" shows "+path, func() (bool, error) {
		var err error
		b, err = r.kube.CoreV1().Pods(ns).ProxyGet("http", pod, "8080", "file", map[string]string{"path": path}).DoRaw(r.ctx)
		return err == nil, err
	})
	return string(b)
}

// speaker reviews a token and ends the test unless it is that account's.
func (r *row) speaker(token, ns, account string, audiences ...string) authenticationv1.UserInfo {
	r.Helper()
	got, err := r.kube.AuthenticationV1().TokenReviews().Create(r.ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
	r.must(err, "reviewing a token")
	r.equal("error of the review", got.Status.Error, "")
	r.equal("authenticated", got.Status.Authenticated, true)
	r.equal("user", got.Status.User.Username, "system:serviceaccount:"+ns+":"+account)
	return got.Status.User
}

// AUTH-007: a pod finds a token of its account, the authority of the API server and its namespace, and what it finds works.
func tokenMounted(r *row) {
	ns := r.namespace()
	_, err := r.kube.CoreV1().ServiceAccounts(ns).Create(r.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "mount-test"}}, metav1.CreateOptions{})
	r.must(err, "creating a service account")
	pod := application("reader", "serve")
	pod.Spec.ServiceAccountName = "mount-test"
	made := r.reaches(ns, pod, corev1.PodRunning)
	user := r.speaker(r.file(ns, "reader", tokenFolder+"/token"), ns, "mount-test")
	r.equal("pod that the token is of", user.Extra["authentication.kubernetes.io/pod-uid"], authenticationv1.ExtraValue{string(made.UID)})
	r.equal("node that the token is of", user.Extra["authentication.kubernetes.io/node-name"], authenticationv1.ExtraValue{made.Spec.NodeName})
	r.equal("namespace in the pod", r.file(ns, "reader", tokenFolder+"/namespace"), ns)
	published, err := r.kube.CoreV1().ConfigMaps(ns).Get(r.ctx, "kube-root-ca.crt", metav1.GetOptions{})
	r.must(err, "getting the authority")
	r.equal("authority in the pod", r.file(ns, "reader", tokenFolder+"/ca.crt"), published.Data["ca.crt"])

	caller := application("caller", "incluster", "/api", "/version")
	caller.Spec.ServiceAccountName = "mount-test"
	r.reaches(ns, caller, corev1.PodSucceeded)
	if log := r.logs(ns, "caller"); !strings.Contains(log, "calling /api: 200") || !strings.Contains(log, "calling /version: 200") {
		r.Fatalf("calling the API server from a pod: %s", log)
	}
}

// AUTH-004: what the pod says goes before what its account says.
func tokenNotMounted(r *row) {
	ns := r.namespace()
	no, yes := false, true
	for name, mount := range map[string]*bool{"mount": &yes, "nomount": &no} {
		_, err := r.kube.CoreV1().ServiceAccounts(ns).Create(r.ctx,
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}, AutomountServiceAccountToken: mount}, metav1.CreateOptions{})
		r.must(err, "creating service account "+name)
	}
	for _, c := range []struct {
		account string
		pod     *bool
		want    bool
	}{
		{"default", nil, true}, {"default", &yes, true}, {"default", &no, false},
		{"mount", nil, true}, {"mount", &yes, true}, {"mount", &no, false},
		{"nomount", nil, false}, {"nomount", &yes, true}, {"nomount", &no, false},
	} {
		what := fmt.Sprintf("account %s, the pod says %s", c.account, asJSON(c.pod))
		pod := limited("", nil, nil)
		pod.GenerateName = "pod-"
		pod.Spec.ServiceAccountName, pod.Spec.AutomountServiceAccountToken = c.account, c.pod
		made, err := r.kube.CoreV1().Pods(ns).Create(r.ctx, pod, metav1.CreateOptions{})
		r.must(err, "creating a pod: "+what)
		mounted := false
		for _, m := range made.Spec.Containers[0].VolumeMounts {
			mounted = mounted || m.MountPath == tokenFolder
		}
		r.equal("a token is mounted: "+what, mounted, c.want)
	}
}

// projected gives a pod a volume with a token at /test-volume/token.
func projected(pod *corev1.Pod, audience string) {
	hour := int64(3600)
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "test-volume", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &hour, Audience: audience}}},
	}}})
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "test-volume", MountPath: "/test-volume", ReadOnly: true})
}

// AUTH-008
func tokenProjected(r *row) {
	ns := r.namespace()
	pod := application("projected", "serve")
	projected(pod, "")
	r.reaches(ns, pod, corev1.PodRunning)
	r.speaker(r.file(ns, "projected", "/test-volume/token"), ns, "default")
}

// AUTH-003: whoever has a token finds its issuer's keys by discovery, and so a pod checks one that is for somebody else than the
// API server.
func issuerDiscovery(r *row) {
	ns := r.namespace()
	pod := application("discovery", "issuer", "-token=/test-volume/token", "-audience=oidc-discovery-test")
	projected(pod, "oidc-discovery-test")
	r.reaches(ns, pod, corev1.PodSucceeded)
	r.equal("what the pod found", strings.Contains(r.logs(ns, "discovery"), "the token of system:serviceaccount:"+ns+":default is good"), true)
}

// AUTH-006: the authority is in every namespace, and comes back when it is deleted or changed.
func rootAuthority(r *row) {
	ns := r.namespace()
	const name = "kube-root-ca.crt"
	maps := r.kube.CoreV1().ConfigMaps(ns)
	var first *corev1.ConfigMap
	r.eventually("there is "+name, func() (bool, error) {
		var err error
		first, err = maps.Get(r.ctx, name, metav1.GetOptions{})
		return err == nil, err
	})
	if !strings.Contains(first.Data["ca.crt"], "BEGIN CERTIFICATE") {
		r.Fatalf("%s holds %s", name, asJSON(first.Data))
	}
	r.must(maps.Delete(r.ctx, name, metav1.DeleteOptions{}), "deleting "+name)
	r.eventually(name+" is there again", func() (bool, error) {
		got, err := maps.Get(r.ctx, name, metav1.GetOptions{})
		return err == nil && got.UID != first.UID && got.Data["ca.crt"] == first.Data["ca.crt"], err
	})
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"ca.crt": "", "other": "data"}})
	r.must(err, "writing a patch")
	_, err = maps.Patch(r.ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	r.must(err, "spoiling "+name)
	r.eventually(name+" is as it was", func() (bool, error) {
		got, err := maps.Get(r.ctx, name, metav1.GetOptions{})
		return err == nil && got.Data["ca.crt"] == first.Data["ca.crt"] && len(got.Data) == 1, err
	})
}
