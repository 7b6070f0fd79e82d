package deployment

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func rollingBackTo(revision string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { setAnnotation(d, appsv1.DeprecatedRollbackTo, revision) }
}

func TestRollBack(t *testing.T) {
	cause := func(v string) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) { setAnnotation(d, "kubernetes.io/change-cause", v) }
	}
	for name, tc := range map[string]struct {
		generations int
		ask         []func(*appsv1.Deployment)
		none        bool
		reason      string
		detail      string
		image       string
		cause       string
	}{
		"to the last":                  {generations: 3, ask: []func(*appsv1.Deployment){rollingBackTo("0")}, reason: "DeploymentRollback", detail: `Rolled back deployment "web" to revision 2`, image: "v2", cause: "cause 2"},
		"to one of them":               {generations: 3, ask: []func(*appsv1.Deployment){rollingBackTo("1")}, reason: "DeploymentRollback", detail: `Rolled back deployment "web" to revision 1`, image: "v1", cause: "cause 1"},
		"to one that is not":           {generations: 3, ask: []func(*appsv1.Deployment){rollingBackTo("7")}, reason: "DeploymentRollbackRevisionNotFound", detail: "Unable to find the revision to rollback to.", image: "v3", cause: "cause 3"},
		"to the last, when it is one":  {generations: 1, ask: []func(*appsv1.Deployment){rollingBackTo("0")}, reason: "DeploymentRollbackRevisionNotFound", detail: "Unable to find last revision.", image: "v1", cause: "cause 1"},
		"to the present":               {generations: 3, ask: []func(*appsv1.Deployment){rollingBackTo("3")}, reason: "DeploymentRollbackTemplateUnchanged", detail: `The rollback revision contains the same template as current deployment "web"`, image: "v3", cause: "cause 3"},
		"to no number":                 {generations: 3, ask: []func(*appsv1.Deployment){rollingBackTo("back")}, none: true},
		"nobody asked":                 {generations: 3, none: true},
		"paused":                       {generations: 3, ask: []func(*appsv1.Deployment){rollingBackTo("0"), func(d *appsv1.Deployment) { d.Spec.Paused = true }}, none: true},
		"going":                        {generations: 3, ask: []func(*appsv1.Deployment){rollingBackTo("0"), func(d *appsv1.Deployment) { d.DeletionTimestamp = &metav1.Time{} }}, none: true},
		"what it has no annotation of": {generations: 2, ask: []func(*appsv1.Deployment){rollingBackTo("0"), func(d *appsv1.Deployment) { d.Annotations["later"] = "x" }}, reason: "DeploymentRollback", image: "v1", cause: "cause 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, deploy(2))
			for i := range tc.generations {
				c.change(image(fmt.Sprint("v", i+1)), cause(fmt.Sprint("cause ", i+1)))
				c.settle(all)
			}
			c.change(tc.ask...)
			before := c.d.DeepCopy()
			r := rollBack(c.d, c.sets)
			if tc.none {
				if r != nil {
					t.Errorf("%+v", r)
				}
				return
			}
			if r == nil {
				t.Fatal("nothing comes of it")
			}
			if r.reason != tc.reason || tc.detail != "" && r.detail != tc.detail || (r.kind == "Normal") != (tc.reason == "DeploymentRollback") {
				t.Errorf("%s %s: %s", r.kind, r.reason, r.detail)
			}
			an := r.want.Annotations
			if _, there := an[appsv1.DeprecatedRollbackTo]; there || an["kubernetes.io/change-cause"] != tc.cause || an["later"] != "" || an[revisionAnnotation] != before.Annotations[revisionAnnotation] {
				t.Errorf("annotations %v", an)
			}
			template := r.want.Spec.Template
			if template.Spec.Containers[0].Image != tc.image || template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != "" {
				t.Errorf("template %+v", template)
			}
			if c.d.Spec.Template.Spec.Containers[0].Image != before.Spec.Template.Spec.Containers[0].Image || len(c.d.Annotations) != len(before.Annotations) {
				t.Error("the Deployment itself was changed")
			}
		})
	}
}

func TestRemembered(t *testing.T) {
	long := strings.TrimSuffix(strings.Repeat("123456789,", 200), ",") // 1,999 bytes
	for name, tc := range map[string]struct{ history, former, want string }{
		"the first":           {"", "1", "1"},
		"another":             {"1,3", "5", "1,3,5"},
		"one it knows":        {"1,3", "1", "1,3"},
		"no part of a number": {"11,3", "1", "11,3,1"},
		"the oldest goes":     {long, "7", strings.TrimPrefix(long, "123456789,") + ",7"},
		"one too long":        {strings.Repeat("9", 3000), "7", "7"},
	} {
		if got := remembered(tc.history, tc.former); got != tc.want {
			t.Errorf("%s: %.60q…, %d bytes", name, got, len(got))
		}
	}
}

// A rollout that stands still with pods of two templates, whose strategy and wish are changed both, goes on.
func TestRecreateAfterAStuckRollout(t *testing.T) {
	c := newCluster(t, deploy(4))
	c.settle(all)
	old := c.sets[0].Name
	c.change(image("broken"))
	c.settle(func(rs *appsv1.ReplicaSet) bool { return rs.Name == old })
	six := int32(6)
	c.change(recreating, image("v3"), func(d *appsv1.Deployment) { d.Spec.Replicas = &six })
	c.settle(all)
	if c.reason() != reasonAvailable || len(c.sets) != 3 || *c.sets[2].Spec.Replicas != 6 {
		t.Errorf("Progressing says %s, %d sets", c.reason(), len(c.sets))
	}
}
