package plugins

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

func TestServiceAccountToken(t *testing.T) {
	c := cluster{accounts: map[string]*corev1.ServiceAccount{
		"a/default": {ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		"a/silent":  {ObjectMeta: metav1.ObjectMeta{Name: "silent"}, AutomountServiceAccountToken: ptr.To(false)},
	}}
	own := corev1.VolumeMount{Name: "mine", MountPath: tokenPath}
	for _, k := range []struct {
		name   string
		spec   corev1.PodSpec
		mounts []int // of each container, init containers first
		volume bool
	}{
		{"all containers", corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}, []int{1, 1, 1}, true},
		{"not one that has its own", corev1.PodSpec{Containers: []corev1.Container{{Name: "a", VolumeMounts: []corev1.VolumeMount{own}}, {Name: "b"}}}, []int{1, 1}, true},
		{"nobody needs it", corev1.PodSpec{Containers: []corev1.Container{{Name: "a", VolumeMounts: []corev1.VolumeMount{own}}}}, []int{1}, false},
		{"the pod says no", corev1.PodSpec{AutomountServiceAccountToken: ptr.To(false), Containers: []corev1.Container{{Name: "a"}}}, []int{0}, false},
		{"the account says no", corev1.PodSpec{ServiceAccountName: "silent", Containers: []corev1.Container{{Name: "a"}}}, []int{0}, false},
		{"the pod's yes counts more", corev1.PodSpec{ServiceAccountName: "silent", AutomountServiceAccountToken: ptr.To(true), Containers: []corev1.Container{{Name: "a"}}}, []int{1}, true},
	} {
		t.Run(k.name, func(t *testing.T) {
			o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: k.spec}
			if err := (&serviceAccount{c}).Mutate(t.Context(), attributes(admission.Create, podKind, o, nil)); err != nil {
				t.Fatal(err)
			}
			for i, each := range append(slices.Clone(o.Spec.InitContainers), o.Spec.Containers...) {
				if len(each.VolumeMounts) != k.mounts[i] {
					t.Errorf("%s mounts %v", each.Name, each.VolumeMounts)
				}
			}
			if !k.volume {
				if len(o.Spec.Volumes) != 0 {
					t.Errorf("volumes %v", o.Spec.Volumes)
				}
				return
			}
			if len(o.Spec.Volumes) != 1 || !strings.HasPrefix(o.Spec.Volumes[0].Name, tokenVolume) {
				t.Fatalf("volumes %v", o.Spec.Volumes)
			}
			sources := o.Spec.Volumes[0].Projected.Sources
			if len(sources) != 3 || *sources[0].ServiceAccountToken.ExpirationSeconds != 3607 || sources[1].ConfigMap.Name != "kube-root-ca.crt" ||
				sources[2].DownwardAPI.Items[0].FieldRef.FieldPath != "metadata.namespace" {
				t.Errorf("sources %+v", sources)
			}
			// What is admitted again, as after a webhook, gets no second one.
			if err := (&serviceAccount{c}).Mutate(t.Context(), attributes(admission.Create, podKind, o, nil)); err != nil || len(o.Spec.Volumes) != 1 {
				t.Errorf("again: %v, %v", o.Spec.Volumes, err)
			}
		})
	}
}

func TestMirrorPodsAreNobody(t *testing.T) {
	for _, k := range []struct {
		spec corev1.PodSpec
		want string
	}{
		{corev1.PodSpec{}, ""},
		{corev1.PodSpec{ServiceAccountName: "x"}, "a mirror pod may not reference service accounts"},
		{corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}}}}, "a mirror pod may not reference secrets"},
		{corev1.PodSpec{Volumes: []corev1.Volume{tokenSource("t")}}, "a mirror pod may not use ServiceAccountToken volume projections"},
	} {
		o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p", Annotations: map[string]string{pod.AnnotationMirror: "x"}}, Spec: k.spec}
		err := (&serviceAccount{cluster{}}).Mutate(t.Context(), attributes(admission.Create, podKind, o, nil))
		if (err == nil) != (k.want == "") || err != nil && !strings.Contains(err.Error(), k.want) {
			t.Errorf("%+v: %v", k.spec, err)
		}
	}
}

func TestMountableSecrets(t *testing.T) {
	c := cluster{accounts: map[string]*corev1.ServiceAccount{
		"a/free": {ObjectMeta: metav1.ObjectMeta{Name: "free"}},
		"a/held": {
			ObjectMeta: metav1.ObjectMeta{Name: "held", Annotations: map[string]string{enforceMounts: "true"}},
			Secrets:    []corev1.ObjectReference{{Name: "mine"}}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
		},
	}}
	volume := func(name string) corev1.PodSpec {
		return corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}}}
	}
	env := func(name string) corev1.PodSpec {
		return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}}}}}
	}
	from := func(name string) corev1.PodSpec {
		return corev1.PodSpec{InitContainers: []corev1.Container{{Name: "c", EnvFrom: []corev1.EnvFromSource{
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}}}}
	}
	pull := func(name string) corev1.PodSpec {
		return corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: name}}}
	}
	for name, make := range map[string]func(string) corev1.PodSpec{"volume": volume, "env": env, "envFrom": from, "pull": pull} {
		for _, k := range []struct {
			account, secret string
			ok              bool
		}{{"free", "other", true}, {"held", "mine", name != "pull"}, {"held", "pull", name == "pull"}, {"held", "other", false}} {
			o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: make(k.secret)}
			o.Spec.ServiceAccountName = k.account
			err := (&serviceAccount{c}).Validate(t.Context(), attributes(admission.Create, podKind, o, nil))
			if (err == nil) != k.ok || err != nil && !strings.Contains(err.Error(), "because service account held does not reference that") {
				t.Errorf("%s of %s by %s: %v", name, k.secret, k.account, err)
			}
		}
	}
}
