package apps

import (
	"fmt"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}, {Name: "d", Image: "j:1"}}},
	}
}

func selector() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
}

func deployment(change func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Selector: selector(), Template: template()}}
	if change != nil {
		change(d)
	}
	Deployments.Default(d)
	return d
}

func TestValidateDeployment(t *testing.T) {
	rolling := func(down, up intstr.IntOrString) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &down, MaxSurge: &up}
		}
	}
	n, s := intstr.FromInt32, intstr.FromString
	for _, c := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   []string
	}{
		{"least", nil, nil},
		{"no selector", func(d *appsv1.Deployment) { d.Spec.Selector = nil }, []string{"spec.selector: Required value"}},
		{"selector of everything", func(d *appsv1.Deployment) { d.Spec.Selector = &metav1.LabelSelector{} }, []string{"spec.selector: Invalid value"}},
		{"selector of others", func(d *appsv1.Deployment) { d.Spec.Selector.MatchLabels["a"] = "c" }, []string{"spec.template.metadata.labels: Invalid value"}},
		{"bad template", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[1].Image = "" }, []string{"spec.template.spec.containers[1].image: Required value"}},
		{"pods that end", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.RestartPolicy, d.Spec.Template.Spec.ActiveDeadlineSeconds = "Never", ptr.To[int64](5)
		}, []string{"spec.template.spec.activeDeadlineSeconds: Forbidden", "spec.template.spec.restartPolicy: Unsupported value"}},
		{"negative numbers", func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Spec.MinReadySeconds, d.Spec.RevisionHistoryLimit = ptr.To[int32](-1), -1, ptr.To[int32](-1)
		}, []string{"spec.minReadySeconds: Invalid value", "spec.replicas: Invalid value", "spec.revisionHistoryLimit: Invalid value"}},
		{"deadline before ready", func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 600 }, []string{"spec.progressDeadlineSeconds: Invalid value"}},
		{"no such strategy", func(d *appsv1.Deployment) { d.Spec.Strategy.Type = "Big Bang" }, []string{"spec.strategy: Unsupported value"}},
		{"recreate, rolling", func(d *appsv1.Deployment) {
			d.Spec.Strategy = appsv1.DeploymentStrategy{Type: "Recreate", RollingUpdate: &appsv1.RollingUpdateDeployment{}}
		}, []string{"spec.strategy.rollingUpdate: Forbidden"}},
		{"no way to move", rolling(n(0), s("0%")), []string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value"}},
		{"more than all", rolling(s("101%"), n(1)), []string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value"}},
		{"neither number nor share", rolling(s("some"), n(-1)), []string{"spec.strategy.rollingUpdate.maxSurge: Invalid value", "spec.strategy.rollingUpdate.maxUnavailable: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := deployment(c.change)
			if got := brief(Deployments.Validate(d)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	d := deployment(nil)
	s := &d.Spec
	if *s.Replicas != 1 || s.Strategy.Type != "RollingUpdate" || s.Strategy.RollingUpdate.MaxSurge.String() != "25%" || s.Strategy.RollingUpdate.MaxUnavailable.String() != "25%" ||
		*s.RevisionHistoryLimit != 10 || *s.ProgressDeadlineSeconds != 600 || s.Template.Spec.RestartPolicy != "Always" {
		t.Errorf("spec %+v", s)
	}
	r := &appsv1.ReplicaSet{}
	ReplicaSets.Default(r)
	if *r.Spec.Replicas != 1 {
		t.Errorf("replicas %d", *r.Spec.Replicas)
	}
}

func TestUpdate(t *testing.T) {
	other := &metav1.LabelSelector{MatchLabels: map[string]string{"a": "c"}}
	for _, c := range []struct {
		name     string
		of       *registry.Resource
		obj, old registry.Object
	}{
		{"deployment", Deployments, deployment(func(d *appsv1.Deployment) { d.Spec.Selector = other }), deployment(nil)},
		{"replica set", ReplicaSets, &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Selector: other}}, &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Selector: selector()}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brief(c.of.ValidateUpdate(c.obj, c.old)); !slices.Equal(got, []string{"spec.selector: Invalid value"}) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestGenerationCountsAnnotations(t *testing.T) {
	old := deployment(func(d *appsv1.Deployment) { d.Generation = 3 })
	for _, c := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   int64
	}{
		{"nothing", func(*appsv1.Deployment) {}, 3},
		{"a label", func(d *appsv1.Deployment) { d.Labels = map[string]string{"a": "b"} }, 3},
		{"an annotation", func(d *appsv1.Deployment) { d.Annotations = map[string]string{"a": "b"} }, 4},
		// The write path has counted the spec already when it calls.
		{"spec and annotation", func(d *appsv1.Deployment) {
			d.Annotations, d.Spec.Paused, d.Generation = map[string]string{"a": "b"}, true, 4
		}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := old.DeepCopy()
			c.change(d)
			Deployments.BeforeUpdate(d, old)
			if d.Generation != c.want {
				t.Errorf("generation %d, want %d", d.Generation, c.want)
			}
		})
	}
}

func TestValidateStatus(t *testing.T) {
	for _, c := range []struct {
		name     string
		of       *registry.Resource
		obj, old registry.Object
		want     []string
	}{
		{"deployment", Deployments, &appsv1.Deployment{Status: appsv1.DeploymentStatus{Replicas: 3, ReadyReplicas: 2, AvailableReplicas: 1, UpdatedReplicas: 3}}, &appsv1.Deployment{}, nil},
		{"more than all", Deployments, &appsv1.Deployment{Status: appsv1.DeploymentStatus{Replicas: 1, ReadyReplicas: 2, AvailableReplicas: 3, UpdatedReplicas: -1}}, &appsv1.Deployment{},
			[]string{"status.availableReplicas: Invalid value", "status.availableReplicas: Invalid value", "status.readyReplicas: Invalid value", "status.updatedReplicas: Invalid value"}},
		{"collisions forgotten", Deployments, &appsv1.Deployment{}, &appsv1.Deployment{Status: appsv1.DeploymentStatus{CollisionCount: ptr.To[int32](1)}}, []string{"status.collisionCount: Invalid value"}},
		{"replica set", ReplicaSets, &appsv1.ReplicaSet{Status: appsv1.ReplicaSetStatus{Replicas: 1, FullyLabeledReplicas: 2}}, &appsv1.ReplicaSet{}, []string{"status.fullyLabeledReplicas: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brief(c.of.ValidateStatus(c.obj, c.old)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestColumnsAndScale(t *testing.T) {
	d := deployment(func(d *appsv1.Deployment) {
		d.Spec.Replicas = ptr.To[int32](3)
		d.Status = appsv1.DeploymentStatus{Replicas: 4, ReadyReplicas: 2, UpdatedReplicas: 1, AvailableReplicas: 2}
	})
	got := map[string]string{}
	for i, v := range Deployments.Cells(d) {
		got[Deployments.Columns[i].Name] = fmt.Sprint(v)
	}
	for k, v := range map[string]string{"Ready": "2/3", "Up-to-date": "1", "Available": "2", "Containers": "c,d", "Images": "i,j:1", "Selector": "a=b"} {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if s := Deployments.ScaleGet(d); s.Spec.Replicas != 3 || s.Status.Replicas != 4 || s.Status.Selector != "a=b" {
		t.Errorf("scale %+v", s)
	}
}
