package quota_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/quota"
)

// list reads pairs of name and quantity.
func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

var now = time.Unix(1_000_000, 0)

func aPod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	change(p)
	return p
}

func asks(requests, limits corev1.ResourceList) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: requests, Limits: limits}
}

func aService(spec corev1.ServiceSpec) *corev1.Service { return &corev1.Service{Spec: spec} }

func aClaim(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "10Gi")}}}
	if change != nil {
		change(c)
	}
	return c
}

func TestUsage(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	ports := []corev1.ServicePort{{NodePort: 30001}, {}}
	for _, tc := range []struct {
		name string
		of   schema.GroupResource
		o    metav1.Object
		want corev1.ResourceList
	}{
		{"pod that asks for nothing", quota.Pods, aPod(func(*corev1.Pod) {}), list("count/pods", "1", "pods", "1")},
		{"pod's requests and limits", quota.Pods, aPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = asks(list("cpu", "1", "memory", "1Gi", "ephemeral-storage", "2Gi"), list("cpu", "2", "ephemeral-storage", "3Gi"))
		}), list("count/pods", "1", "pods", "1", "cpu", "1", "requests.cpu", "1", "limits.cpu", "2", "memory", "1Gi", "requests.memory", "1Gi",
			"ephemeral-storage", "2Gi", "requests.ephemeral-storage", "2Gi", "limits.ephemeral-storage", "3Gi")},
		{"huge pages and foreign resources", quota.Pods, aPod(func(p *corev1.Pod) {
			l := list("hugepages-2Mi", "4Mi", "example.com/gpu", "2", "deviceclass.resource.kubernetes.io/fast", "1")
			p.Spec.Containers[0].Resources = asks(l, l)
		}), list("count/pods", "1", "pods", "1", "hugepages-2Mi", "4Mi", "requests.hugepages-2Mi", "4Mi", "requests.example.com/gpu", "2",
			"requests.deviceclass.resource.kubernetes.io/fast", "1")},
		{"init peak, sidecar and overhead", quota.Pods, aPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = asks(list("cpu", "1"), nil)
			p.Spec.InitContainers = []corev1.Container{
				{Name: "s", RestartPolicy: &always, Resources: asks(list("cpu", "2"), nil)}, {Name: "i", Resources: asks(list("cpu", "3"), nil)}}
			p.Spec.Overhead = list("cpu", "250m")
		}), list("count/pods", "1", "pods", "1", "cpu", "5250m", "requests.cpu", "5250m")},
		{"of the pod as a whole", quota.Pods, aPod(func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "4"), Limits: list("cpu", "5")}
			p.Spec.Containers[0].Resources = asks(list("cpu", "1"), nil)
		}), list("count/pods", "1", "pods", "1", "cpu", "4", "requests.cpu", "4", "limits.cpu", "5")},
		{"growing: what is wanted counts before it is had", quota.Pods, aPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = asks(list("cpu", "2"), nil)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: list("cpu", "1"), Resources: ptr.To(asks(list("cpu", "1"), nil))}}
		}), list("count/pods", "1", "pods", "1", "cpu", "2", "requests.cpu", "2")},
		{"shrinking: what is had counts until it is given up", quota.Pods, aPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = asks(list("cpu", "1"), nil)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: list("cpu", "1"), Resources: ptr.To(asks(list("cpu", "2"), nil))}}
		}), list("count/pods", "1", "pods", "1", "cpu", "2", "requests.cpu", "2")},
		{"finished pod", quota.Pods, aPod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), list("count/pods", "1")},
		{"pod that ends", quota.Pods, aPod(func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(now.Add(-10*time.Second))), ptr.To[int64](30)
		}), list("count/pods", "1", "pods", "1")},
		{"pod that should have ended long ago", quota.Pods, aPod(func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(now.Add(-31*time.Second))), ptr.To[int64](30)
		}), list("count/pods", "1")},
		{"service", quota.Services, aService(corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: ports}),
			list("count/services", "1", "services", "1", "services.nodeports", "0", "services.loadbalancers", "0")},
		{"node port service", quota.Services, aService(corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: ports}),
			list("count/services", "1", "services", "1", "services.nodeports", "2", "services.loadbalancers", "0")},
		{"balancer", quota.Services, aService(corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: ports}),
			list("count/services", "1", "services", "1", "services.nodeports", "2", "services.loadbalancers", "1")},
		{"balancer without node ports but its own", quota.Services,
			aService(corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: ports, AllocateLoadBalancerNodePorts: ptr.To(false)}),
			list("count/services", "1", "services", "1", "services.nodeports", "1", "services.loadbalancers", "1")},
		{"claim without a class", quota.Claims, aClaim(nil), list("count/persistentvolumeclaims", "1", "persistentvolumeclaims", "1", "requests.storage", "10Gi")},
		{"claim of a class", quota.Claims, aClaim(func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = ptr.To("gold") }),
			list("count/persistentvolumeclaims", "1", "persistentvolumeclaims", "1", "requests.storage", "10Gi",
				"gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1", "gold.storageclass.storage.k8s.io/requests.storage", "10Gi")},
		{"claim of an annotated class, in parts of bytes", quota.Claims, aClaim(func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{corev1.BetaStorageClassAnnotation: "old"}
			c.Spec.Resources.Requests = list("storage", "100m")
		}), list("count/persistentvolumeclaims", "1", "persistentvolumeclaims", "1", "requests.storage", "1",
			"old.storageclass.storage.k8s.io/persistentvolumeclaims", "1", "old.storageclass.storage.k8s.io/requests.storage", "1")},
		{"claim that holds more than it asks for", quota.Claims, aClaim(func(c *corev1.PersistentVolumeClaim) { c.Status.AllocatedResources = list("storage", "20Gi") }),
			list("count/persistentvolumeclaims", "1", "persistentvolumeclaims", "1", "requests.storage", "20Gi")},
		{"devices", quota.Devices, &resourcev1.ResourceClaim{Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
			{Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 2}},
			{FirstAvailable: []resourcev1.DeviceSubRequest{
				{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 3},
				{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1},
				{DeviceClassName: "net", AllocationMode: resourcev1.DeviceAllocationModeAll}}},
		}}}}, list("count/resourceclaims.resource.k8s.io", "1", "gpu.deviceclass.resource.k8s.io/devices", "5", "net.deviceclass.resource.k8s.io/devices", "32")},
		{"classic count", schema.GroupResource{Resource: "secrets"}, nil, list("count/secrets", "1", "secrets", "1")},
		{"count of a group", schema.GroupResource{Group: "apps", Resource: "deployments"}, nil, list("count/deployments.apps", "1")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := quota.Of(tc.of)
			got := m.Usage(tc.o, now)
			if !quota.Equal(got, tc.want) {
				t.Errorf("got  %s\nwant %s", quota.Text(got), quota.Text(tc.want))
			}
			for name := range got {
				if !m.Covers(name) {
					t.Errorf("%s is used and not covered", name)
				}
				if of, ok := quota.ResourceOf(name); !ok || of != tc.of {
					t.Errorf("%s is used up by %v, want %v", name, of, tc.of)
				}
			}
		})
	}
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		of   schema.GroupResource
		name corev1.ResourceName
		want bool
	}{
		{quota.Pods, "requests.storage", false},
		{quota.Pods, "requests.kubernetes.io/x", false},
		{quota.Pods, "limits.example.com/gpu", false},
		{quota.Pods, "example.com/gpu", false},
		{quota.Pods, "count/services", false},
		{quota.Services, "pods", false},
		{quota.Claims, "gold.storageclass.storage.k8s.io/limits.storage", false},
		{schema.GroupResource{Resource: "configmaps"}, "configmaps", true},
		{schema.GroupResource{Resource: "configmaps"}, "secrets", false},
		{schema.GroupResource{Group: "apps", Resource: "deployments"}, "", false},
	} {
		if got := quota.Of(tc.of).Covers(tc.name); got != tc.want {
			t.Errorf("%v covers %q: %v, want %v", tc.of, tc.name, got, tc.want)
		}
	}
	for _, name := range []corev1.ResourceName{"count/", "nonsense"} {
		if of, ok := quota.ResourceOf(name); ok {
			t.Errorf("%q is used up by %v", name, of)
		}
	}
	if !quota.Ignored(schema.GroupResource{Resource: "events"}) || !quota.Ignored(schema.GroupResource{Group: "events.k8s.io", Resource: "events"}) || quota.Ignored(quota.Pods) {
		t.Error("events alone are ignored")
	}
}

func TestScopes(t *testing.T) {
	deadline := aPod(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](10) })
	busy := aPod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks(list("cpu", "1"), nil) })
	high := aPod(func(p *corev1.Pod) { p.Spec.PriorityClassName = "high" })
	term := corev1.PodAffinityTerm{NamespaceSelector: &metav1.LabelSelector{}}
	away := aPod(func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{PodAffinityTerm: term}}}}
	})
	near := aPod(func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{}}}}
	})
	gold := aClaim(func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = ptr.To("gold") })
	turning := aClaim(func(c *corev1.PersistentVolumeClaim) {
		c.Status.CurrentVolumeAttributesClassName = ptr.To("gold")
		c.Status.ModifyVolumeStatus = &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: "silver"}
	})
	req := func(scope corev1.ResourceQuotaScope, op corev1.ScopeSelectorOperator, values ...string) *corev1.ScopeSelector {
		return &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: scope, Operator: op, Values: values}}}
	}
	scoped := func(scopes ...corev1.ResourceQuotaScope) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{Scopes: scopes}
	}
	selected := func(s *corev1.ScopeSelector) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{ScopeSelector: s}
	}
	const priority, attributes = corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeVolumeAttributesClass
	for _, tc := range []struct {
		name string
		spec corev1.ResourceQuotaSpec
		o    metav1.Object
		want bool
	}{
		{"no scope", scoped(), busy, true},
		{"terminating", scoped("Terminating"), deadline, true},
		{"not terminating, with a deadline", scoped("NotTerminating"), deadline, false},
		{"not terminating", scoped("NotTerminating"), busy, true},
		{"best effort", scoped("BestEffort"), deadline, true},
		{"best effort, asking", scoped("BestEffort"), busy, false},
		{"not best effort", scoped("NotBestEffort"), busy, true},
		{"two scopes, one of them not", scoped("NotBestEffort", "Terminating"), busy, false},
		{"a scope and a selector", corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{"NotTerminating"}, ScopeSelector: req(priority, "In", "high")}, high, true},
		{"class in", selected(req(priority, "In", "low", "high")), high, true},
		{"class not in the list", selected(req(priority, "In", "low")), high, false},
		{"none in", selected(req(priority, "In", "low")), busy, false},
		{"class not in", selected(req(priority, "NotIn", "low")), high, true},
		{"none not in", selected(req(priority, "NotIn", "low")), busy, true},
		{"class exists", selected(req(priority, "Exists")), high, true},
		{"none exists", selected(req(priority, "Exists")), busy, false},
		{"class exists as a scope", scoped(priority), high, true},
		{"class does not exist", selected(req(priority, "DoesNotExist")), high, false},
		{"none does not exist", selected(req(priority, "DoesNotExist")), busy, true},
		{"other namespaces", scoped("CrossNamespacePodAffinity"), away, true},
		{"own namespace", scoped("CrossNamespacePodAffinity"), near, false},
		{"no affinity", scoped("CrossNamespacePodAffinity"), busy, false},
		{"claim's class", selected(req(attributes, "In", "gold")), gold, true},
		{"claim's target class", selected(req(attributes, "In", "silver")), turning, true},
		{"claim's class and another", selected(req(attributes, "NotIn", "gold")), turning, true},
		{"claim without one", selected(req(attributes, "Exists")), aClaim(nil), false},
		{"claim in a scope of pods", scoped("BestEffort"), gold, false},
		{"pod in a scope of claims", scoped(attributes), busy, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := quota.Of(quota.Pods)
			if _, ok := tc.o.(*corev1.PersistentVolumeClaim); ok {
				m = quota.Of(quota.Claims)
			}
			if got := m.InScopes(&corev1.ResourceQuota{Spec: tc.spec}, tc.o); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	if quota.Of(quota.Services).InScopes(&corev1.ResourceQuota{Spec: scoped("BestEffort")}, aService(corev1.ServiceSpec{})) {
		t.Error("a service is in no scope")
	}
}

func TestMissing(t *testing.T) {
	names := []corev1.ResourceName{"limits.cpu", "memory", "pods", "requests.ephemeral-storage"}
	two := func(first, second, init corev1.ResourceRequirements) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "b", Resources: first}, {Name: "a", Resources: second}}, InitContainers: []corev1.Container{{Name: "i", Resources: init}}}}
	}
	full := asks(list("memory", "1"), list("cpu", "1"))
	for _, tc := range []struct {
		name string
		p    *corev1.Pod
		want string
	}{
		{"nothing", two(full, full, full), ""},
		{"everything", two(asks(nil, nil), asks(nil, nil), asks(nil, nil)), "must specify limits.cpu for: a,b,i; memory for: a,b,i"},
		{"one", two(full, full, asks(list("memory", "1"), nil)), "must specify limits.cpu for: i"},
		{"said for the pod as a whole", aPod(func(p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "1")} }), ""},
	} {
		if got := quota.Of(quota.Pods).Missing(names, tc.p); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestChanges(t *testing.T) {
	plain, deadline := aPod(func(*corev1.Pod) {}), aPod(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](1) })
	held := aClaim(func(c *corev1.PersistentVolumeClaim) { c.Status.AllocatedResources = list("storage", "20Gi") })
	for _, tc := range []struct {
		name   string
		of     schema.GroupResource
		sub    string
		o, old metav1.Object
		want   bool
	}{
		{"pod", quota.Pods, "", plain, plain, false},
		{"pod given a deadline", quota.Pods, "", deadline, plain, true},
		{"pod resized", quota.Pods, "resize", plain, plain, true},
		{"pod's status", quota.Pods, "status", plain, plain, false},
		{"service", quota.Services, "", nil, nil, true},
		{"service's status", quota.Services, "status", nil, nil, false},
		{"claim", quota.Claims, "", aClaim(nil), aClaim(nil), true},
		{"claim's status", quota.Claims, "status", aClaim(nil), aClaim(nil), false},
		{"claim's allocation", quota.Claims, "status", held, aClaim(nil), true},
		{"what is only counted", schema.GroupResource{Resource: "secrets"}, "", nil, nil, false},
	} {
		if got := quota.Of(tc.of).Changes(tc.sub, tc.o, tc.old); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestLists(t *testing.T) {
	a, b := list("cpu", "1", "pods", "2", "memory", "1Gi"), list("cpu", "500m", "pods", "3")
	for _, tc := range []struct {
		name      string
		got, want corev1.ResourceList
	}{
		{"sum", quota.Add(a, b), list("cpu", "1500m", "pods", "5", "memory", "1Gi")},
		{"more", quota.More(a, b), list("cpu", "500m", "memory", "1Gi")},
		{"less", quota.Less(a, b), list("cpu", "500m", "pods", "0", "memory", "1Gi")},
		{"only", quota.Only(a, []corev1.ResourceName{"cpu", "secrets"}), list("cpu", "1")},
		{"positive", quota.Positive(list("cpu", "0", "pods", "1")), list("pods", "1")},
		{"untouched", a, list("cpu", "1", "pods", "2", "memory", "1Gi")},
	} {
		if !quota.Equal(tc.got, tc.want) {
			t.Errorf("%s: got %s, want %s", tc.name, quota.Text(tc.got), quota.Text(tc.want))
		}
	}
	if got := quota.Join(quota.Beyond(a, b)); got != "cpu" {
		t.Errorf("beyond: %s", got)
	}
	if got := quota.Text(a); got != "cpu=1,memory=1Gi,pods=2" {
		t.Errorf("text: %s", got)
	}
	if quota.Equal(a, b) || quota.Equal(list("cpu", "1"), list("pods", "1")) {
		t.Error("different lists are equal")
	}
}
