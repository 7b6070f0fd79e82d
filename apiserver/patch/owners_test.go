package patch

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

func configMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "default", UID: "0b8bd1b5-3a5c-4f0a-9ef4-3f4c1a5d2e10", CreationTimestamp: metav1.Unix(1_700_000_000, 0),
		},
		Data: map[string]string{"a": strings.Repeat("x", 1024)},
	}
}

func pod() *corev1.Pod {
	at := metav1.Unix(1_700_000_000, 0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "default", UID: "u", CreationTimestamp: at, Labels: map[string]string{"app": "web", "pod-template-hash": "1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", UID: "r1"}},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, SchedulerName: "default-scheduler", NodeName: "n1",
			SecurityContext: &corev1.PodSecurityContext{}, ServiceAccountName: "default",
			Containers: []corev1.Container{{
				Name: "web", Image: "web:1", ImagePullPolicy: corev1.PullAlways, TerminationMessagePath: "/dev/termination-log",
				Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP}}, TerminationMessagePolicy: "File",
				Env: []corev1.EnvVar{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}},
			}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort,
			Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: "True", LastTransitionTime: at}},
		},
	}
}

func running(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	at := metav1.Unix(1_700_000_005, 0)
	p.Status.Phase, p.Status.PodIP, p.Status.StartTime = corev1.PodRunning, "10.0.0.1", &at
	p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}}
	for _, c := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: c, Status: "True", LastTransitionTime: at})
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "web", Ready: true, Image: "web:1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}},
	}}
	return p
}

func writerOf(manager string) Writer {
	return Writer{Manager: manager, APIVersion: "v1", Now: time.Unix(1_700_000_010, 0)}
}

// A kind that only a schema describes is owned and applied like any other.
func TestOwnersOfCustom(t *testing.T) {
	o := NewOwners()
	gvk := schema.GroupVersionKind{Group: "a.io", Version: "v1", Kind: "Thing"}
	k := &Kind{GVK: gvk, Type: &typed.DeducedParseableType, New: func() Object {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(gvk)
		return u
	}}
	w := writerOf("m")
	w.APIVersion, w.Custom = "a.io/v1", k
	obj := k.New().(*unstructured.Unstructured)
	obj.SetName("a")
	obj.SetUID("u")
	obj.Object["spec"] = map[string]any{"x": int64(1), "list": []any{"a"}}
	o.Update(obj, nil, w)
	if got, want := withoutTimes(obj.GetManagedFields()), `Update m a.io/v1  FieldsV1 {"f:spec":{".":{},"f:list":{},"f:x":{}}}`; got != want {
		t.Errorf("created: got %s, want %s", got, want)
	}
	next := obj.DeepCopy()
	next.Object["spec"].(map[string]any)["x"] = int64(2)
	w.Manager = "n"
	o.Update(next, obj, w)
	if got, want := withoutTimes(next.GetManagedFields()), `Update m a.io/v1  FieldsV1 {"f:spec":{".":{},"f:list":{}}}
Update n a.io/v1  FieldsV1 {"f:spec":{"f:x":{}}}`; got != want {
		t.Errorf("updated: got %s, want %s", got, want)
	}
	config := map[string]any{"apiVersion": "a.io/v1", "kind": "Thing", "metadata": map[string]any{"name": "a"}, "spec": map[string]any{"x": int64(3)}}
	w.Manager = "p"
	if _, err := o.Apply(next, config, *k, w, false); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), ".spec.x") {
		t.Errorf("applied: %v", err)
	}
	out, err := o.Apply(next, config, *k, w, true)
	if err != nil || out.(*unstructured.Unstructured).Object["spec"].(map[string]any)["x"] != int64(3) {
		t.Errorf("forced: %v, %v", out, err)
	}
}

func BenchmarkOwn(b *testing.B) {
	status := writerOf("kubelet")
	status.Subresource, status.Scope = "status", StatusOnly
	changedMap := configMap()
	changedMap.Data["a"] = strings.Repeat("y", 1024)
	again := running(pod())
	again.Status.Conditions[2].Status = "False"
	for _, c := range []struct {
		name     string
		old, obj Object
		by       Writer
	}{
		{"create ConfigMap", nil, configMap(), writerOf("kubectl")},
		{"update ConfigMap", configMap(), changedMap, writerOf("kubectl")},
		{"create Pod", nil, pod(), writerOf("kubectl")},
		{"status Pod, first", pod(), running(pod()), status},
		{"status Pod, again", running(pod()), again, status},
	} {
		b.Run(c.name, func(b *testing.B) {
			o := NewOwners()
			if c.old != nil {
				o.Update(c.old, nil, writerOf("kubectl"))
				if c.name == "status Pod, again" {
					c.old = pod()
					o.Update(c.old, nil, writerOf("kubectl"))
					next := running(c.old.(*corev1.Pod))
					o.Update(next, c.old, status)
					c.old = next
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				c.obj.SetManagedFields(nil)
				o.Update(c.obj, c.old, c.by)
			}
		})
	}
}
