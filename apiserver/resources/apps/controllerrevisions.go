package apps

import (
	"bytes"
	"encoding/json"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ControllerRevisions are states that stateful sets and daemon sets can go back to.
var ControllerRevisions = registry.Define(registry.Kind[*appsv1.ControllerRevision]{
	Group: "apps", Version: "v1", Kind: "ControllerRevision", Plural: "controllerrevisions",
	Namespaced:     true,
	Validate:       validateControllerRevision,
	ValidateUpdate: validateControllerRevisionUpdate,
	Columns: []registry.Column[*appsv1.ControllerRevision]{
		{Name: "Controller", Description: "Whose state it is.", Value: func(r *appsv1.ControllerRevision) any { return controllerOf(r) }},
		{Name: "Revision", Type: "integer", Description: "Number of the state.", Value: func(r *appsv1.ControllerRevision) any { return r.Revision }},
		registry.Age[*appsv1.ControllerRevision](),
	},
})

// controllerOf names the owner as kubectl does: kind.group/name.
func controllerOf(r *appsv1.ControllerRevision) string {
	owner := metav1.GetControllerOf(r)
	if owner == nil {
		return "<none>"
	}
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil {
		return "<none>"
	}
	kind := strings.ToLower(owner.Kind)
	if gv.Group != "" {
		kind += "." + gv.Group
	}
	return kind + "/" + owner.Name
}

// validateControllerRevision checks a state that was written down.
func validateControllerRevision(r *appsv1.ControllerRevision) field.ErrorList {
	var errs field.ErrorList
	if r.Data.Raw == nil && r.Data.Object == nil {
		errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
	}
	return append(errs, apivalidation.ValidateNonnegativeField(r.Revision, field.NewPath("revision"))...)
}

// validateControllerRevisionUpdate lets only its number change.
func validateControllerRevisionUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	if sameData(r.Data.Raw, old.Data.Raw) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("data"), r.Data, apivalidation.FieldImmutableErrorMsg)}
}

// sameData compares documents, not the way they are written.
func sameData(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && apiequality.Semantic.DeepEqual(x, y)
}
