package plugins

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/admission"
)

var claimKind = define[*corev1.PersistentVolumeClaim]("", "PersistentVolumeClaim", "persistentvolumeclaims", true)

type ranges []*corev1.LimitRange

func (r ranges) LimitRanges(context.Context, string, bool) ([]*corev1.LimitRange, error) {
	return r, nil
}

// list reads «name quantity» pairs.
func list(pairs ...string) corev1.ResourceList {
	var l corev1.ResourceList
	for i := 0; i+1 < len(pairs); i += 2 {
		if l == nil {
			l = corev1.ResourceList{}
		}
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func limits(items ...corev1.LimitRangeItem) *limitRanger {
	return &limitRanger{ranges{{Spec: corev1.LimitRangeSpec{Limits: items}}}}
}

func container(requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func TestLimitDefaults(t *testing.T) {
	p := aPod(func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{container(nil, nil), container(list("cpu", "1"), list("memory", "7"))}
		p.Spec.InitContainers = []corev1.Container{container(list("cpu", "1", "memory", "1"), list("cpu", "2", "memory", "2"))}
		p.Spec.Containers[1].Name, p.Spec.InitContainers[0].Name = "d", "i"
	})
	l := limits(corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Default: list("cpu", "500m", "memory", "500Mi"), DefaultRequest: list("memory", "200Mi", "cpu", "100m")},
		corev1.LimitRangeItem{Type: corev1.LimitTypePod, Default: list("cpu", "9")})
	if err := l.Mutate(t.Context(), attributes(admission.Create, podKind, p, nil)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ requests, limits corev1.ResourceList }{
		{list("cpu", "100m", "memory", "200Mi"), list("cpu", "500m", "memory", "500Mi")},
		{list("cpu", "1", "memory", "200Mi"), list("cpu", "500m", "memory", "7")},
	} {
		for name, q := range want.requests {
			if got := p.Spec.Containers[i].Resources.Requests[name]; got.Cmp(q) != 0 {
				t.Errorf("container %d requests %s of %s", i, got.String(), name)
			}
		}
		for name, q := range want.limits {
			if got := p.Spec.Containers[i].Resources.Limits[name]; got.Cmp(q) != 0 {
				t.Errorf("container %d is limited to %s of %s", i, got.String(), name)
			}
		}
	}
	const note = "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c; memory request for container d; cpu limit for container d"
	if got := p.Annotations["kubernetes.io/limit-ranger"]; got != note {
		t.Errorf("noted %q", got)
	}
}

func TestLimits(t *testing.T) {
	of := func(kind corev1.LimitType, min, max, ratio corev1.ResourceList) corev1.LimitRangeItem {
		return corev1.LimitRangeItem{Type: kind, Min: min, Max: max, MaxLimitRequestRatio: ratio}
	}
	pods := func(all ...corev1.Container) *admission.Attributes {
		return attributes(admission.Create, podKind, aPod(func(p *corev1.Pod) { p.Spec.Containers = all }), nil)
	}
	resize := pods(container(list("cpu", "9"), list("cpu", "9")))
	resize.Operation, resize.Subresource, resize.Old = admission.Update, "resize", aPod(nil)
	status := pods(container(list("cpu", "9"), list("cpu", "9")))
	status.Operation, status.Subresource, status.Old = admission.Update, "status", aPod(nil)
	claim := func(size string) *admission.Attributes {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
		if size != "" {
			c.Spec.Resources.Requests = list("storage", size)
		}
		return attributes(admission.Create, claimKind, c, nil)
	}
	const container1, pod, pvc = corev1.LimitTypeContainer, corev1.LimitTypePod, corev1.LimitTypePersistentVolumeClaim
	for _, c := range []struct {
		name  string
		limit corev1.LimitRangeItem
		a     *admission.Attributes
		words string
	}{
		{"inside", of(container1, list("cpu", "1"), list("cpu", "3"), list("cpu", "2")), pods(container(list("cpu", "1"), list("cpu", "2"))), ""},
		{"too little", of(container1, list("cpu", "1"), nil, nil), pods(container(list("cpu", "999m"), nil)), "minimum cpu usage per Container is 1, but request is 999m"},
		{"too low a limit", of(container1, list("cpu", "2"), nil, nil), pods(container(list("cpu", "2"), list("cpu", "1"))), "minimum cpu usage per Container is 2, but limit is 1"},
		{"no request", of(container1, list("cpu", "1"), nil, nil), pods(container(nil, nil)), "minimum cpu usage per Container is 1.  No request is specified"},
		{"too much", of(container1, nil, list("memory", "1Gi"), nil), pods(container(nil, list("memory", "2Gi"))), "maximum memory usage per Container is 1Gi, but limit is 2Gi"},
		{"too big a request", of(container1, nil, list("memory", "1Gi"), nil), pods(container(list("memory", "2Gi"), list("memory", "1Gi"))), "maximum memory usage per Container is 1Gi, but request is 2Gi"},
		{"no limit", of(container1, nil, list("memory", "1Gi"), nil), pods(container(list("memory", "1Mi"), nil)), "maximum memory usage per Container is 1Gi.  No limit is specified"},
		{"ratio", of(container1, nil, nil, list("cpu", "1500m")), pods(container(list("cpu", "1"), list("cpu", "2"))), "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000"},
		{"ratio to nothing", of(container1, nil, nil, list("cpu", "2")), pods(container(nil, list("cpu", "2"))), "but no request is specified or request is 0"},
		{"ratio of nothing", of(container1, nil, nil, list("cpu", "2")), pods(container(list("cpu", "2"), nil)), "but no limit is specified or limit is 0"},
		{"two faults", of(container1, nil, list("cpu", "1", "memory", "1Gi"), nil), pods(container(nil, nil)), "[maximum cpu usage per Container is 1.  No limit is specified, maximum memory usage per Container is 1Gi.  No limit is specified]"},
		{"a pod's sum", of(pod, nil, list("cpu", "3"), nil), pods(container(nil, list("cpu", "2")), container(nil, list("cpu", "2"))), "maximum cpu usage per Pod is 3, but limit is 4"},
		{"a pod that fits", of(pod, list("cpu", "1"), list("cpu", "4"), nil), pods(container(list("cpu", "1"), list("cpu", "2")), container(nil, list("cpu", "2"))), ""},
		{"a resize", of(container1, nil, list("cpu", "3"), nil), resize, "maximum cpu usage per Container is 3, but limit is 9"},
		{"a status", of(container1, nil, list("cpu", "3"), nil), status, ""},
		{"a claim", of(pvc, list("storage", "1Gi"), list("storage", "2Gi"), nil), claim("1Gi"), ""},
		{"a small claim", of(pvc, list("storage", "1Gi"), nil, nil), claim("1Mi"), "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"},
		{"a big claim", of(pvc, nil, list("storage", "2Gi"), nil), claim("3Gi"), "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"},
		{"a claim to nothing", of(pvc, nil, list("storage", "2Gi"), nil), claim(""), "maximum storage usage per PersistentVolumeClaim is 2Gi.  No request is specified"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reason := metav1.StatusReason("")
			if c.words != "" {
				reason = metav1.StatusReasonForbidden
			}
			refused(t, limits(c.limit).Validate(t.Context(), c.a), reason, c.words)
		})
	}
}
