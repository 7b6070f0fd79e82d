package bootstrap

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/flowcontrol"
)

// step is a write.
type step struct {
	method string
	obj    metav1.Object
}

// planLevels says what is to be written, given the levels that there are. It changes those.
func planLevels(have []*flowcontrolv1.PriorityLevelConfiguration) []step {
	return plan(have, priorityLevels(), func(l, w *flowcontrolv1.PriorityLevelConfiguration) func() {
		spec := w.Spec
		if l.Spec.Exempt != nil && spec.Exempt != nil {
			spec.Exempt = l.Spec.Exempt // of the mandatory level, that much is the administrator's
		}
		if equality.Semantic.DeepEqual(l.Spec, spec) {
			return nil
		}
		return func() { l.Spec = spec }
	})
}

// planSchemas is planLevels of flow schemas.
func planSchemas(have []*flowcontrolv1.FlowSchema) []step {
	return plan(have, flows(), func(f, w *flowcontrolv1.FlowSchema) func() {
		if equality.Semantic.DeepEqual(f.Spec, w.Spec) {
			return nil
		}
		return func() { f.Spec = w.Spec }
	})
}

// plan compares what there is with what there should be. right says how to set the spec of an object right, nil when it is.
func plan[T metav1.Object](have, want []T, right func(have, want T) func()) []step {
	missing := make(map[string]T, len(want))
	for _, w := range want {
		missing[w.GetName()] = w
	}
	var steps []step
	for _, o := range have {
		w, known := missing[o.GetName()]
		delete(missing, o.GetName())
		switch {
		case !known && o.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey] == "true":
			steps = append(steps, step{http.MethodDelete, o}) // of an older version
		case !known:
		default:
			if upkeep(o, right(o, w)) {
				steps = append(steps, step{http.MethodPut, o})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		steps = append(steps, step{http.MethodPost, missing[name]})
	}
	return steps
}

// upkeep changes an object that is mandatory or suggested to what it should be, and says whether there was anything to change. The spec of a
// mandatory one is kept; that of a suggested one if its annotation says so. Where nothing is said, an object that was never changed is
// kept, and one that was is its owner's.
func upkeep(o metav1.Object, right func()) (changed bool) {
	const key = flowcontrolv1.AutoUpdateAnnotationKey
	mandatory := o.GetName() == flowcontrolv1.FlowSchemaNameExempt || o.GetName() == flowcontrolv1.FlowSchemaNameCatchAll
	says := o.GetAnnotations()[key]
	should := says
	switch {
	case mandatory, says != "true" && says != "false" && o.GetGeneration() == 1:
		should = "true"
	case says != "true" && says != "false":
		should = "false"
	}
	if says != should {
		a := maps.Clone(o.GetAnnotations())
		if a == nil {
			a = map[string]string{}
		}
		a[key] = should
		o.SetAnnotations(a)
		changed = true
	}
	if should == "true" && right != nil {
		right()
		changed = true
	}
	return changed
}

// dangles says whether a schema names a level that does not exist, in the words that Kubernetes users know.
func dangles(s *flowcontrol.Schema, levels *flowcontrol.Levels) (is flowcontrolv1.ConditionStatus, reason, message string) {
	message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q ", s.Level)
	if levels.ByName[s.Level] == nil {
		return flowcontrolv1.ConditionTrue, "NotFound", message + "but there is no such object"
	}
	return flowcontrolv1.ConditionFalse, "Found", message + "and it exists"
}
