//lint:file-ignore SA1019 ComponentStatus is deprecated, and served as long as Kubernetes serves it.

package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// amounts makes a list of resources: name, amount, name, amount …
func amounts(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func podTemplate() *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

func TestValidateBounds(t *testing.T) {
	limits := func(items ...corev1.LimitRangeItem) *corev1.LimitRange {
		return &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: items}}
	}
	quota := func(change func(*corev1.ResourceQuotaSpec)) *corev1.ResourceQuota {
		q := &corev1.ResourceQuota{}
		change(&q.Spec)
		return q
	}
	rc := func(change func(*corev1.ReplicationControllerSpec)) *corev1.ReplicationController {
		r := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: podTemplate()}}
		change(&r.Spec)
		return r
	}
	const item = "spec.limits[0]."
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want []string
	}{
		{"limits", LimitRanges, limits(corev1.LimitRangeItem{Type: "Container", Min: amounts("cpu", "1"), Max: amounts("cpu", "4"), DefaultRequest: amounts("cpu", "2"), MaxLimitRequestRatio: amounts("cpu", "4")}), nil},
		{"limits of storage", LimitRanges, limits(corev1.LimitRangeItem{Type: "PersistentVolumeClaim", Min: amounts("storage", "1Gi")}), nil},
		{"limits of no type", LimitRanges, limits(corev1.LimitRangeItem{}), []string{item + "type: Invalid value", item + "type: Invalid value"}},
		{"limits of an odd type", LimitRanges, limits(corev1.LimitRangeItem{Type: "Node"}), []string{item + "type: Invalid value"}},
		{"limits of a foreign type", LimitRanges, limits(corev1.LimitRangeItem{Type: "a.b/c", Max: amounts("storage", "1")}), nil},
		{"limits twice", LimitRanges, limits(corev1.LimitRangeItem{Type: "Pod"}, corev1.LimitRangeItem{Type: "Pod"}), []string{"spec.limits[1].type: Duplicate value"}},
		{"defaults for pods", LimitRanges, limits(corev1.LimitRangeItem{Type: "Pod", Default: amounts("cpu", "1"), DefaultRequest: amounts("cpu", "1")}),
			[]string{item + "default: Forbidden", item + "defaultRequest: Forbidden"}},
		{"limits of odd things", LimitRanges, limits(corev1.LimitRangeItem{Type: "Container", Max: amounts("storage", "1")}, corev1.LimitRangeItem{Type: "PersistentVolumeClaim", Max: amounts("bytes", "1")}),
			[]string{item + "defaultRequest[storage]: Invalid value", item + "default[storage]: Invalid value", item + "max[storage]: Invalid value", "spec.limits[1].limits: Required value", "spec.limits[1].max[bytes]: Invalid value"}},
		{"limits without room", LimitRanges, limits(corev1.LimitRangeItem{Type: "Container", Min: amounts("cpu", "5"), Max: amounts("cpu", "2"), Default: amounts("cpu", "3"), DefaultRequest: amounts("cpu", "4")}),
			[]string{item + "defaultRequest[cpu]: Invalid value", item + "defaultRequest[cpu]: Invalid value", item + "defaultRequest[cpu]: Invalid value",
				item + "default[cpu]: Invalid value", item + "default[cpu]: Invalid value", item + "min[cpu]: Invalid value"}},
		{"odd ratios", LimitRanges, limits(corev1.LimitRangeItem{Type: "Pod", Min: amounts("cpu", "1"), Max: amounts("cpu", "2"), MaxLimitRequestRatio: amounts("cpu", "3", "memory", "500m")}),
			[]string{item + "maxLimitRequestRatio[cpu]: Invalid value", item + "maxLimitRequestRatio[memory]: Invalid value"}},
		{"devices promised twice", LimitRanges, limits(corev1.LimitRangeItem{Type: "Container", Default: amounts("a.b/gpu", "2"), DefaultRequest: amounts("a.b/gpu", "1")}),
			[]string{item + "defaultRequest[a.b/gpu]: Invalid value"}},

		{"quota", ResourceQuotas, quota(func(s *corev1.ResourceQuotaSpec) {
			s.Hard = amounts("cpu", "1", "requests.memory", "1Gi", "pods", "5", "count/jobs.batch", "3", "requests.nvidia.com/gpu", "1", "fast.storageclass.storage.k8s.io/requests.storage", "1Gi", "requests.hugepages-2Mi", "2Mi")
		}), nil},
		{"quota of odd things", ResourceQuotas, quota(func(s *corev1.ResourceQuotaSpec) { s.Hard = amounts("storage", "1", "pods", "500m", "cpu", "-1") }),
			[]string{"spec.hard[cpu]: Invalid value", "spec.hard[pods]: Invalid value", "spec.hard[storage]: Invalid value"}},
		{"quota of scopes", ResourceQuotas, quota(func(s *corev1.ResourceQuotaSpec) {
			s.Scopes, s.Hard = []corev1.ResourceQuotaScope{"BestEffort"}, amounts("pods", "1")
		}), nil},
		{"quota of a scope it does not fit", ResourceQuotas, quota(func(s *corev1.ResourceQuotaSpec) {
			s.Scopes, s.Hard = []corev1.ResourceQuotaScope{"BestEffort", "Odd"}, amounts("cpu", "1")
		}), []string{"spec.scopes: Invalid value", "spec.scopes: Invalid value"}},
		{"quota of opposites", ResourceQuotas, quota(func(s *corev1.ResourceQuotaSpec) {
			s.Scopes = []corev1.ResourceQuotaScope{"Terminating", "NotTerminating"}
		}), []string{"spec.scopes: Invalid value"}},
		{"quota of priorities", ResourceQuotas, quota(func(s *corev1.ResourceQuotaSpec) {
			s.Hard = amounts("pods", "1")
			s.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: "PriorityClass", Operator: "In", Values: []string{"high"}}}}
		}), nil},
		{"quota with odd selectors", ResourceQuotas, quota(func(s *corev1.ResourceQuotaSpec) {
			s.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
				{ScopeName: "Odd", Operator: "Like"}, {ScopeName: "BestEffort", Operator: "In"}, {ScopeName: "PriorityClass", Operator: "Exists", Values: []string{"x"}}, {ScopeName: "NotBestEffort", Operator: "Exists"},
			}}
		}), []string{"spec.scopeSelector.matchExpressions.operator: Invalid value", "spec.scopeSelector.matchExpressions.operator: Invalid value", "spec.scopeSelector.matchExpressions.scopeName: Invalid value",
			"spec.scopeSelector.matchExpressions.values: Invalid value", "spec.scopeSelector.matchExpressions.values: Required value", "spec.scopeSelector.matchExpressions: Invalid value"}},

		{"pod template", PodTemplates, &corev1.PodTemplate{Template: *podTemplate()}, nil},
		{"bad pod template", PodTemplates, &corev1.PodTemplate{}, []string{"template.spec.containers: Required value"}},
		{"replication controller", ReplicationControllers, rc(func(*corev1.ReplicationControllerSpec) {}), nil},
		{"replication controller of nothing", ReplicationControllers, &corev1.ReplicationController{}, []string{"spec.selector: Required value", "spec.template: Required value"}},
		{"replication controller of others", ReplicationControllers, rc(func(s *corev1.ReplicationControllerSpec) {
			s.Selector, s.Replicas, s.MinReadySeconds = map[string]string{"a": "c"}, ptr.To[int32](-1), -1
			s.Template.Spec.RestartPolicy, s.Template.Spec.ActiveDeadlineSeconds = "Never", ptr.To[int64](1)
		}), []string{"spec.minReadySeconds: Invalid value", "spec.replicas: Invalid value", "spec.template.metadata.labels: Invalid value", "spec.template.spec.activeDeadlineSeconds: Forbidden",
			"spec.template.spec.restartPolicy: Unsupported value"}},
		{"binding", Bindings, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}, nil},
		{"binding to nothing", Bindings, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Pod"}}, []string{"target.kind: Unsupported value", "target.name: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.of.Default(c.obj)
			if got := brief(c.of.Validate(c.obj)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestBoundsDefaults(t *testing.T) {
	l := &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: "Container", Max: amounts("cpu", "2"), Min: amounts("cpu", "1", "memory", "1Gi")},
		{Type: "Pod", Max: amounts("cpu", "2")},
	}}}
	LimitRanges.Default(l)
	c, p := l.Spec.Limits[0], l.Spec.Limits[1]
	if fmt.Sprint(c.Default.Cpu(), c.DefaultRequest.Cpu(), c.DefaultRequest.Memory(), len(c.Default)) != "2 2 1Gi 1" {
		t.Errorf("container %v, %v", c.Default, c.DefaultRequest)
	}
	if p.Default != nil || p.DefaultRequest != nil {
		t.Errorf("pod %v", p)
	}
	r := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: podTemplate()}}
	ReplicationControllers.Default(r)
	if *r.Spec.Replicas != 1 || r.Spec.Selector["a"] != "b" || r.Labels["a"] != "b" || r.Spec.Template.Spec.RestartPolicy != "Always" {
		t.Errorf("replication controller %+v", r)
	}
	q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"BestEffort"}}}
	if got := brief(ResourceQuotas.ValidateUpdate(&corev1.ResourceQuota{}, q)); !slices.Equal(got, []string{"spec.scopes: Invalid value"}) {
		t.Errorf("other scopes: %q", got)
	}
	if got := brief(ResourceQuotas.ValidateStatus(&corev1.ResourceQuota{Status: corev1.ResourceQuotaStatus{Hard: amounts("x", "1"), Used: amounts("pods", "-1")}}, q)); !slices.Equal(got,
		[]string{"status.hard[x]: Invalid value", "status.hard[x]: Invalid value", "status.used[pods]: Invalid value"}) {
		t.Errorf("status: %q", got)
	}
	if got := brief(ReplicationControllers.ValidateStatus(&corev1.ReplicationController{Status: corev1.ReplicationControllerStatus{Replicas: 1, ReadyReplicas: 2, AvailableReplicas: -1}}, r)); !slices.Equal(got,
		[]string{"status.availableReplicas: Invalid value", "status.readyReplicas: Invalid value"}) {
		t.Errorf("status: %q", got)
	}
}

func TestWorkloadColumns(t *testing.T) {
	made := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want map[string]string
	}{
		{"limits", LimitRanges, &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: made}}, map[string]string{"Created At": "2026-01-02T03:04:05Z"}},
		{"quota", ResourceQuotas, &corev1.ResourceQuota{Status: corev1.ResourceQuotaStatus{Hard: amounts("pods", "5", "cpu", "2", "limits.cpu", "4"), Used: amounts("pods", "1")}},
			map[string]string{"Request": "cpu: 0/2, pods: 1/5", "Limit": "limits.cpu: 0/4"}},
		{"pod template", PodTemplates, &corev1.PodTemplate{Template: *podTemplate()}, map[string]string{"Containers": "c", "Images": "i", "Pod Labels": "a=b"}},
		{"replication controller", ReplicationControllers, &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To[int32](3), Template: podTemplate(), Selector: map[string]string{"a": "b"}},
			Status: corev1.ReplicationControllerStatus{Replicas: 2, ReadyReplicas: 1}}, map[string]string{"Desired": "3", "Current": "2", "Ready": "1", "Containers": "c", "Selector": "a=b"}},
		{"component", ComponentStatuses, &corev1.ComponentStatus{Conditions: []corev1.ComponentCondition{{Type: "Healthy", Status: "True", Message: "ok"}}}, map[string]string{"Status": "Healthy", "Message": "ok", "Error": ""}},
		{"component that is not asked", ComponentStatuses, &corev1.ComponentStatus{}, map[string]string{"Status": "Unknown"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := cells(c.of, c.obj)
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
		})
	}
}
