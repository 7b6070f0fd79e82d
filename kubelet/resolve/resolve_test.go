package resolve

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type objects struct {
	maps    map[string]map[string]string
	secrets map[string]map[string]string
}

func (o objects) ConfigMap(ns, name string) (*corev1.ConfigMap, error) {
	d, ok := o.maps[ns+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name)
	}
	return &corev1.ConfigMap{Data: d}, nil
}

func (o objects) Secret(ns, name string) (*corev1.Secret, error) {
	d, ok := o.secrets[ns+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
	}
	s := &corev1.Secret{Data: map[string][]byte{}}
	for k, v := range d {
		s.Data[k] = []byte(v)
	}
	return s, nil
}

func ref(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func TestEnv(t *testing.T) {
	yes := true
	look := objects{
		maps:    map[string]map[string]string{"shop/settings": {"b": "2", "a": "1"}},
		secrets: map[string]map[string]string{"shop/keys": {"token": "s3cret"}},
	}
	fromMap := func(name, key string, opt *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref(name), Key: key, Optional: opt}}
	}
	fromSecret := func(name, key string, opt *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref(name), Key: key, Optional: opt}}
	}
	for _, tc := range []struct {
		name    string
		from    []corev1.EnvFromSource
		env     []corev1.EnvVar
		service []string
		want    []string
		missing string
	}{
		{name: "nothing"},
		{name: "plain and references to what stands before",
			env:  []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)$(C)$$(A)"}, {Name: "C", Value: "3"}},
			want: []string{"A=1", "B=1$(C)$(A)", "C=3"}},
		{name: "envFrom is sorted, prefixed, seen by references and overridden by env",
			from: []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("settings")}}},
			env:  []corev1.EnvVar{{Name: "P_b", Value: "[$(P_a)]"}},
			want: []string{"P_a=1", "P_b=[1]"}},
		{name: "secret as a whole", from: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("keys")}}},
			want: []string{"token=s3cret"}},
		{name: "single keys", env: []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("settings", "a", nil)}, {Name: "T", ValueFrom: fromSecret("keys", "token", nil)}},
			want: []string{"A=1", "T=s3cret"}},
		{name: "services come first and can be overridden", service: []string{"X_SERVICE_HOST=10.0.0.1"},
			env: []corev1.EnvVar{{Name: "H", Value: "$(X_SERVICE_HOST)"}}, want: []string{"X_SERVICE_HOST=10.0.0.1", "H=10.0.0.1"}},
		{name: "optional things may be missing", from: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("no"), Optional: &yes}}},
			env: []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("settings", "no", &yes)}, {Name: "B", ValueFrom: fromSecret("no", "no", &yes)}}},
		{name: "missing map", env: []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("no", "a", nil)}}, missing: `configmap "no" not found`},
		{name: "missing secret", from: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("no")}}}, missing: `secret "no" not found`},
		{name: "missing key", env: []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("settings", "no", nil)}}, missing: "couldn't find key no in ConfigMap shop/settings"},
		{name: "missing secret key", env: []corev1.EnvVar{{Name: "A", ValueFrom: fromSecret("keys", "no", nil)}}, missing: "couldn't find key no in Secret shop/keys"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}}
			got, err := Env(pod, &corev1.Container{Env: tc.env, EnvFrom: tc.from}, Facts{Services: tc.service}, look)
			if tc.missing != "" {
				if !errors.Is(err, ErrMissing) || err.Error() != tc.missing {
					t.Fatalf("error %v, want ErrMissing %q", err, tc.missing)
				}
				return
			}
			if err != nil || !slices.Equal(got, tc.want) {
				t.Fatalf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "x", "B": "$(A)", "": "empty"}
	for in, want := range map[string]string{
		"": "", "$": "$", "a$": "a$", "$$": "$", "$$(A)": "$(A)", "$(A)": "x", "$(B)": "$(A)", "-$(A)-$(A)": "-x-x", "$(NO)": "$(NO)", "$(A": "$(A", "$A": "$A", "$$$(A)": "$x",
	} {
		if got := Expand(in, values); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A)$$")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Expand(strings.ReplaceAll(s, "$", "$$"), map[string]string{"A": "x"}); got != s {
			t.Errorf("an escaped %q became %q", s, got)
		}
	})
}

func TestField(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u", Labels: map[string]string{"b": "2", "a.io/x": "1\"q"}, Annotations: map[string]string{"k": "v"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "sa"},
	}
	facts := Facts{NodeName: "node1", PodIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}, HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	for path, want := range map[string]string{
		"metadata.name": "p", "metadata.namespace": "n", "metadata.uid": "u", "metadata.labels['a.io/x']": "1\"q", "metadata.annotations['k']": "v",
		"metadata.labels": "a.io/x=\"1\\\"q\"\nb=\"2\"", "metadata.annotations": `k="v"`, "spec.nodeName": "node1", "spec.serviceAccountName": "sa",
		"status.hostIP": "192.0.2.1", "status.hostIPs": "192.0.2.1", "status.podIP": "10.0.0.1", "status.podIPs": "10.0.0.1,fd00::1",
	} {
		if got, err := Field(pod, path, facts); err != nil || got != want {
			t.Errorf("Field(%s) = %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := Field(pod, "spec.containers", facts); !errors.Is(err, ErrMissing) {
		t.Errorf("an unknown path gives %v", err)
	}
}

func TestResource(t *testing.T) {
	q := resource.MustParse
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "a", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": q("250m"), "memory": q("10Mi")}, Limits: corev1.ResourceList{"cpu": q("1500m")}}},
	}}}
	facts := Facts{Allocatable: corev1.ResourceList{"memory": q("1Gi")}}
	for _, tc := range []struct{ field, divisor, container, want string }{
		{"limits.cpu", "", "", "2"}, {"limits.cpu", "1m", "", "1500"}, {"requests.cpu", "", "a", "1"}, {"requests.cpu", "1m", "", "250"},
		{"requests.memory", "1Mi", "", "10"}, {"limits.memory", "1Mi", "", "1024"}, {"requests.ephemeral-storage", "", "", "0"},
	} {
		sel := &corev1.ResourceFieldSelector{Resource: tc.field, ContainerName: tc.container}
		if tc.divisor != "" {
			sel.Divisor = q(tc.divisor)
		}
		if got, err := Resource(pod, &pod.Spec.Containers[0], sel, facts); err != nil || got != tc.want {
			t.Errorf("%s by %q = %q, %v, want %q", tc.field, tc.divisor, got, err, tc.want)
		}
	}
	for _, bad := range []*corev1.ResourceFieldSelector{{Resource: "cpu"}, {Resource: "limits.cpu", ContainerName: "no"}} {
		if _, err := Resource(pod, nil, bad, facts); !errors.Is(err, ErrMissing) {
			t.Errorf("%v gives %v", bad, err)
		}
	}
}

func TestServices(t *testing.T) {
	svc := func(ns, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	all := []*corev1.Service{
		svc("shop", "web-app", "10.96.0.9", corev1.ServicePort{Name: "http", Port: 80, Protocol: "TCP"}),
		svc("shop", "headless", "None", corev1.ServicePort{Port: 1}),
		svc("other", "hidden", "10.96.0.8", corev1.ServicePort{Port: 1}),
		svc("default", "kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443}),
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}}
	got := Services(pod, all)
	for _, want := range []string{
		"KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_SERVICE_PORT_HTTPS=443", "WEB_APP_SERVICE_HOST=10.96.0.9",
		"WEB_APP_PORT=tcp://10.96.0.9:80", "WEB_APP_PORT_80_TCP_ADDR=10.96.0.9",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
	if strings.Contains(strings.Join(got, " "), "HIDDEN") || strings.Contains(strings.Join(got, " "), "HEADLESS") {
		t.Errorf("services that must not show: %q", got)
	}
	no := false
	pod.Spec.EnableServiceLinks = &no
	if got := Services(pod, all); !slices.Contains(got, "KUBERNETES_SERVICE_HOST=10.96.0.1") || strings.Contains(strings.Join(got, " "), "WEB_APP") {
		t.Errorf("without links: %q", got)
	}
}
