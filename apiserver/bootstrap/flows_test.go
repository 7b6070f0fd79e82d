package bootstrap

import (
	"fmt"
	"slices"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/flowcontrol"
)

func TestPlanSchemas(t *testing.T) {
	// here is a suggested or mandatory schema as it is in the cluster.
	here := func(name, annotation string, generation int64, changed bool) *flowcontrolv1.FlowSchema {
		f := &flowcontrolv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, w := range flows() {
			if w.Name == name {
				f = w
			}
		}
		f.Generation, f.ResourceVersion, f.Annotations = generation, "7", map[string]string{"mine": "kept"}
		if annotation != "" {
			f.Annotations[flowcontrolv1.AutoUpdateAnnotationKey] = annotation
		}
		if changed {
			f.Spec.MatchingPrecedence += 7
		}
		return f
	}
	for _, c := range []struct {
		name string
		have *flowcontrolv1.FlowSchema
		want string // steps, with the annotation and whether the spec is the suggested one
	}{
		{"as it should be", here("probes", "true", 1, false), ""},
		{"changed", here("probes", "true", 2, true), "PUT true right"},
		{"changed by its owner", here("probes", "false", 2, true), ""},
		{"says nothing, never changed", here("probes", "", 1, true), "PUT true right"},
		{"says nothing, was changed", here("probes", "", 2, true), "PUT false changed"},
		{"says nonsense, was changed", here("probes", "maybe", 2, true), "PUT false changed"},
		{"mandatory", here("exempt", "true", 1, false), ""},
		{"mandatory, not to be kept", here("exempt", "false", 5, false), "PUT true right"},
		{"mandatory, changed", here("catch-all", "", 5, true), "PUT true right"},
		{"unknown", here("mine", "", 1, false), ""},
		{"unknown, its owner's", here("mine", "false", 1, false), ""},
		{"of an older version", here("mine", "true", 1, false), "DELETE true changed"},
	} {
		got := ""
		others := 0
		for _, s := range planSchemas([]*flowcontrolv1.FlowSchema{c.have}) {
			if s.method == "POST" {
				others++
				continue
			}
			f := s.obj.(*flowcontrolv1.FlowSchema)
			is := "changed"
			if slices.ContainsFunc(flows(), func(w *flowcontrolv1.FlowSchema) bool {
				return w.Name == f.Name && w.Spec.MatchingPrecedence == f.Spec.MatchingPrecedence
			}) {
				is = "right"
			}
			got = fmt.Sprint(s.method, " ", f.Annotations[flowcontrolv1.AutoUpdateAnnotationKey], " ", is)
			if f.ResourceVersion != "7" || f.Annotations["mine"] != "kept" {
				t.Errorf("%s: writes %+v", c.name, f.ObjectMeta)
			}
		}
		missing := len(flows()) - 1
		if c.have.Name == "mine" {
			missing++
		}
		if got != c.want || others != missing {
			t.Errorf("%s: got %q, want %q; %d of %d missing ones are made", c.name, got, c.want, others, missing)
		}
	}
}

func TestPlanLevels(t *testing.T) {
	all := priorityLevels()
	if steps := planLevels(all); len(steps) != 0 {
		t.Errorf("nothing is to do: %v", steps)
	}
	seven := int32(7)
	for _, l := range all {
		if l.Name == "exempt" {
			l.Spec.Exempt.NominalConcurrencyShares = &seven // is the administrator's
		}
		if l.Name == "system" {
			l.Spec.Limited.NominalConcurrencyShares = &seven
		}
	}
	steps := planLevels(all)
	if len(steps) != 1 || steps[0].method != "PUT" || *steps[0].obj.(*flowcontrolv1.PriorityLevelConfiguration).Spec.Limited.NominalConcurrencyShares != 30 {
		t.Errorf("steps %v", steps)
	}
	if steps := planLevels(nil); len(steps) != 8 {
		t.Errorf("%d steps", len(steps))
	}
}

// The suggested and mandatory schemas name levels that are there.
func TestFlowsHaveLevels(t *testing.T) {
	var levels []*flowcontrol.Level
	for _, l := range priorityLevels() {
		levels = append(levels, flowcontrol.CompileLevel(l))
	}
	for _, f := range flows() {
		if is, _, _ := dangles(flowcontrol.Compile(f), flowcontrol.Gather(levels)); is != flowcontrolv1.ConditionFalse {
			t.Errorf("%s dangles", f.Name)
		}
	}
}
