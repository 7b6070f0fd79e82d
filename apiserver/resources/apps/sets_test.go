package apps

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

func claim(name string) corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
	}}
}

func stateful(change func(*appsv1.StatefulSetSpec)) *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: appsv1.StatefulSetSpec{Selector: selector(), Template: template()}}
	if change != nil {
		change(&s.Spec)
	}
	StatefulSets.Default(s)
	StatefulSets.BeforeCreate(s)
	return s
}

func daemon(change func(*appsv1.DaemonSetSpec)) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: selector(), Template: template()}}
	if change != nil {
		change(&d.Spec)
	}
	DaemonSets.Default(d)
	DaemonSets.BeforeCreate(d)
	return d
}

func TestSetDefaults(t *testing.T) {
	s := &stateful(func(s *appsv1.StatefulSetSpec) { s.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim("v")} }).Spec
	if *s.Replicas != 1 || *s.RevisionHistoryLimit != 10 || s.PodManagementPolicy != "OrderedReady" || s.UpdateStrategy.Type != "RollingUpdate" || *s.UpdateStrategy.RollingUpdate.Partition != 0 ||
		s.PersistentVolumeClaimRetentionPolicy.WhenDeleted != "Retain" || s.PersistentVolumeClaimRetentionPolicy.WhenScaled != "Retain" {
		t.Errorf("stateful set %+v", s)
	}
	if c := s.VolumeClaimTemplates[0]; *c.Spec.VolumeMode != "Filesystem" || c.Status.Phase != "Pending" {
		t.Errorf("claim %+v", c)
	}
	d := daemon(nil)
	r := d.Spec.UpdateStrategy.RollingUpdate
	if *d.Spec.RevisionHistoryLimit != 10 || r.MaxUnavailable.IntValue() != 1 || r.MaxSurge.IntValue() != 0 || d.Annotations[appsv1.DeprecatedTemplateGeneration] != "1" {
		t.Errorf("daemon set %+v", d)
	}
	again := d.DeepCopy()
	again.Annotations = nil
	DaemonSets.BeforeUpdate(again, d)
	if again.Annotations[appsv1.DeprecatedTemplateGeneration] != "1" {
		t.Errorf("counted without a change: %v", again.Annotations)
	}
	again.Spec.Template.Spec.NodeName = "x"
	DaemonSets.BeforeUpdate(again, d)
	if again.Annotations[appsv1.DeprecatedTemplateGeneration] != "2" {
		t.Errorf("did not count: %v", again.Annotations)
	}
}

func TestValidateSets(t *testing.T) {
	n, p := intstr.FromInt32, intstr.FromString
	rolling := func(down, up intstr.IntOrString) *appsv1.DaemonSet {
		return daemon(func(s *appsv1.DaemonSetSpec) {
			s.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &down, MaxSurge: &up}
		})
	}
	mount := func(s *appsv1.StatefulSetSpec) {
		s.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	}
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want []string
	}{
		{"stateful set", StatefulSets, stateful(nil), nil},
		{"stateful set with a claim", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) {
			mount(s)
			s.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim("v")}
		}), nil},
		{"stateful set without the claim", StatefulSets, stateful(mount), []string{"spec.template.spec.containers[0].volumeMounts[0].name: Not found"}},
		{"stateful set with a bad claim", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) { s.VolumeClaimTemplates = make([]corev1.PersistentVolumeClaim, 1) }),
			[]string{"spec.volumeClaimTemplates[0].metadata.name: Required value", "spec.volumeClaimTemplates[0].spec.accessModes: Required value", "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value"}},
		{"stateful set of odd words", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) {
			s.PodManagementPolicy, s.UpdateStrategy.Type = "Any", "Any"
			s.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Keep", WhenScaled: "Keep"}
		}), []string{"spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value", "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value",
			"spec.podManagementPolicy: Invalid value", "spec.updateStrategy: Invalid value"}},
		{"stateful set of odd numbers", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) {
			s.Replicas, s.MinReadySeconds, s.Ordinals = ptr.To[int32](-1), -1, &appsv1.StatefulSetOrdinals{Start: -1}
			s.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](-1), MaxUnavailable: ptr.To(p("0%"))}
		}), []string{"spec.minReadySeconds: Invalid value", "spec.ordinals.start: Invalid value", "spec.replicas: Invalid value", "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value",
			"spec.updateStrategy.rollingUpdate.partition: Invalid value"}},
		{"stateful set on delete, rolling", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) {
			s.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: "OnDelete", RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{}}
		}), []string{"spec.updateStrategy.rollingUpdate: Invalid value"}},
		{"stateful set without selector", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) { s.Selector = nil }), []string{"spec.selector: Required value"}},
		{"stateful set of others", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) { s.Selector.MatchLabels["a"] = "c" }), []string{"spec.template.metadata.labels: Invalid value"}},

		{"daemon set", DaemonSets, daemon(nil), nil},
		{"daemon set that surges", DaemonSets, rolling(n(0), p("30%")), nil},
		{"daemon set that cannot move", DaemonSets, rolling(n(0), p("0%")), []string{"spec.updateStrategy.rollingUpdate.maxUnavailable: Required value"}},
		{"daemon set that moves both ways", DaemonSets, rolling(n(1), n(1)), []string{"spec.updateStrategy.rollingUpdate.maxSurge: Invalid value"}},
		{"daemon set of more than all", DaemonSets, rolling(p("101%"), n(0)), []string{"spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value"}},
		{"daemon set of an odd strategy", DaemonSets, daemon(func(s *appsv1.DaemonSetSpec) { s.UpdateStrategy.Type = "Any" }), []string{"spec.updateStrategy: Unsupported value"}},
		{"daemon set of odd numbers and pods that end", DaemonSets, daemon(func(s *appsv1.DaemonSetSpec) {
			s.MinReadySeconds, s.RevisionHistoryLimit, s.Template.Spec.RestartPolicy = -1, ptr.To[int32](-1), "Never"
		}), []string{"spec.minReadySeconds: Invalid value", "spec.revisionHistoryLimit: Invalid value", "spec.template.spec.restartPolicy: Unsupported value"}},

		{"revision", ControllerRevisions, &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte("{}")}}, nil},
		{"revision of nothing", ControllerRevisions, &appsv1.ControllerRevision{Revision: -1}, []string{"data: Required value", "revision: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brief(c.of.Validate(c.obj)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if bad := StatefulSets.Name("a.b", false); len(bad) == 0 {
		t.Error("a stateful set may have a dot in its name")
	}
}

// A claim's kind is not stored but said again at each read: naming it, or not, is no change.
func TestClaimsNameTheirKind(t *testing.T) {
	named := func(s *appsv1.StatefulSetSpec) {
		c := claim("v")
		c.TypeMeta = metav1.TypeMeta{Kind: "PersistentVolumeClaim", APIVersion: "v1"}
		s.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{c}
	}
	b, err := stateful(named).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	old := &appsv1.StatefulSet{}
	if err := old.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	StatefulSets.OnRead(old)
	if got := old.Spec.VolumeClaimTemplates[0].TypeMeta; got.Kind != "PersistentVolumeClaim" || got.APIVersion != "v1" {
		t.Errorf("read as %v", got)
	}
	bare := stateful(named)
	bare.Spec.VolumeClaimTemplates[0].TypeMeta = metav1.TypeMeta{}
	for _, again := range []*appsv1.StatefulSet{stateful(named), bare} {
		StatefulSets.Default(again)
		StatefulSets.Default(old)
		if errs := StatefulSets.ValidateUpdate(again, old); len(errs) > 0 {
			t.Errorf("the same set again is refused: %v", errs)
		}
	}
}

func TestUpdateSets(t *testing.T) {
	revision := func(data string) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte(data)}}
	}
	for _, c := range []struct {
		name     string
		of       *registry.Resource
		obj, old registry.Object
		want     []string
	}{
		{"what a stateful set lets change", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) {
			s.Replicas, s.MinReadySeconds, s.RevisionHistoryLimit, s.Ordinals = ptr.To[int32](5), 3, ptr.To[int32](1), &appsv1.StatefulSetOrdinals{Start: 2}
			s.Template.Spec.Containers[0].Image = "x"
			s.UpdateStrategy.Type = "OnDelete"
			s.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Delete"}
		}), stateful(nil), nil},
		{"a stateful set's service", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) { s.ServiceName = "x" }), stateful(nil), []string{"spec: Forbidden"}},
		{"a stateful set's claims", StatefulSets, stateful(func(s *appsv1.StatefulSetSpec) { s.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim("v")} }), stateful(nil), []string{"spec: Forbidden"}},
		{"a daemon set's selector", DaemonSets, daemon(func(s *appsv1.DaemonSetSpec) { s.Selector = &metav1.LabelSelector{} }), daemon(nil), []string{"spec.selector: Invalid value"}},
		{"a revision written otherwise", ControllerRevisions, revision(`{"b": 1, "a": 2}`), revision(`{"a":2,"b":1}`), nil},
		{"another revision", ControllerRevisions, revision(`{"a":1}`), revision(`{"a":2}`), []string{"data: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brief(c.of.ValidateUpdate(c.obj, c.old)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	for _, c := range []struct {
		of       *registry.Resource
		obj, old registry.Object
		want     []string
	}{
		{StatefulSets, &appsv1.StatefulSet{Status: appsv1.StatefulSetStatus{Replicas: 1, CurrentReplicas: 2, AvailableReplicas: 1, ObservedGeneration: -1}},
			&appsv1.StatefulSet{Status: appsv1.StatefulSetStatus{CollisionCount: ptr.To[int32](1)}},
			[]string{"status.availableReplicas: Invalid value", "status.collisionCount: Invalid value", "status.currentReplicas: Invalid value", "status.observedGeneration: Invalid value"}},
		{DaemonSets, &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{NumberReady: -1}}, &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{CollisionCount: ptr.To[int32](1)}},
			[]string{"status.collisionCount: Invalid value", "status.numberReady: Invalid value"}},
	} {
		if got := brief(c.of.ValidateStatus(c.obj, c.old)); !slices.Equal(got, c.want) {
			t.Errorf("status of %s: got %q, want %q", c.of.Plural, got, c.want)
		}
	}
}

func TestSetColumnsAndWarnings(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want map[string]string
	}{
		{"stateful set", StatefulSets, &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](3), Template: template()}, Status: appsv1.StatefulSetStatus{ReadyReplicas: 2}},
			map[string]string{"Ready": "2/3", "Containers": "c,d", "Images": "i,j:1"}},
		{"daemon set", DaemonSets, &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: selector(), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{NodeSelector: map[string]string{"b": "2", "a": "1"}}}},
			Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 5, CurrentNumberScheduled: 4, NumberReady: 3, UpdatedNumberScheduled: 2, NumberAvailable: 1}},
			map[string]string{"Desired": "5", "Current": "4", "Ready": "3", "Up-to-date": "2", "Available": "1", "Node Selector": "a=1,b=2", "Selector": "a=b"}},
		{"revision", ControllerRevisions, &appsv1.ControllerRevision{Revision: 7, ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", Controller: &yes}}}},
			map[string]string{"Controller": "daemonset.apps/d", "Revision": "7"}},
		{"revision of nobody", ControllerRevisions, &appsv1.ControllerRevision{}, map[string]string{"Controller": "<none>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := map[string]string{}
			for i, v := range c.of.Cells(c.obj) {
				got[c.of.Columns[i].Name] = fmt.Sprint(v)
			}
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
		})
	}
	odd := stateful(func(s *appsv1.StatefulSetSpec) {
		s.RevisionHistoryLimit, s.VolumeClaimTemplates = ptr.To[int32](-1), []corev1.PersistentVolumeClaim{claim("v")}
		s.VolumeClaimTemplates[0].Spec.Resources.Requests["storage"] = resource.MustParse("500m")
	})
	if got := StatefulSets.Warn(odd, nil); len(got) != 2 || !strings.HasPrefix(got[0], "spec.volumeClaimTemplates[0].spec.resources.requests[storage]: fractional byte value") ||
		!strings.HasPrefix(got[1], "spec.revisionHistoryLimit: ") {
		t.Errorf("warned %q", got)
	}
	d := deployment(func(d *appsv1.Deployment) { d.Name = "a.b" })
	if got := Deployments.Warn(d, nil); len(got) != 1 || !strings.HasPrefix(got[0], "metadata.name: ") {
		t.Errorf("warned %q", got)
	}
	if got := Deployments.Warn(d, d); len(got) != 0 {
		t.Errorf("warned again %q", got)
	}
}
