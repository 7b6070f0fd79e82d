// Package storagemigration declares the kinds of the group storagemigration.k8s.io, a file each; see resources/core for what a
// kind's file holds.
package storagemigration

import (
	"strings"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// StorageVersionMigrations ask for all objects of a resource to be written anew.
var StorageVersionMigrations = registry.Define(registry.Kind[*storagemigrationv1.StorageVersionMigration]{
	Group: "storagemigration.k8s.io", Version: "v1", Kind: "StorageVersionMigration", Plural: "storageversionmigrations",
	Status: true,
	BeforeCreate: func(m *storagemigrationv1.StorageVersionMigration) {
		m.Status = storagemigrationv1.StorageVersionMigrationStatus{}
	},
	Validate: validateMigration,
	ValidateUpdate: func(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
		return apivalidation.ValidateImmutableField(m.Spec, old.Spec, field.NewPath("spec"))
	},
	ValidateStatus: validateMigrationStatus,
	Columns: []registry.Column[*storagemigrationv1.StorageVersionMigration]{
		{Name: "Resource", Description: "What is migrated.", Value: func(m *storagemigrationv1.StorageVersionMigration) any { return m.Spec.Resource.String() }},
	},
})

func validateMigration(m *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	var errs field.ErrorList
	at, r := field.NewPath("spec", "resource"), m.Spec.Resource
	if r.Resource == "" {
		errs = append(errs, field.Required(at.Child("resource"), "resource is required to be set"))
	} else if msgs := validation.IsDNS1035Label(r.Resource); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at.Child("resource"), r.Resource, strings.Join(msgs, ",")))
	}
	if r.Group == "" {
		return errs
	}
	if msgs := validation.IsDNS1123Subdomain(r.Group); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at.Child("group"), r.Group, strings.Join(msgs, ",")))
	}
	return errs
}

// validateMigrationStatus lets a migration run, and end once, well or badly.
func validateMigrationStatus(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	status := field.NewPath("status")
	at, is, was := status.Child("resourceVersion"), m.Status.ResourceVersion, old.Status.ResourceVersion
	var errs field.ErrorList
	if is != "" {
		if _, err := resourceversion.CompareResourceVersion(is, is); err != nil {
			errs = append(errs, field.Invalid(at, is, err.Error()))
		}
	}
	if was != "" && is != was {
		errs = append(errs, field.Invalid(at, is, apivalidation.FieldImmutableErrorMsg))
	}
	at = status.Child("conditions")
	errs = append(errs, metav1validation.ValidateConditions(m.Status.Conditions, at)...)
	has := func(m *storagemigrationv1.StorageVersionMigration, t storagemigrationv1.MigrationConditionType) bool {
		return meta.IsStatusConditionTrue(m.Status.Conditions, string(t))
	}
	running, done, failed := has(m, storagemigrationv1.MigrationRunning), has(m, storagemigrationv1.MigrationSucceeded), has(m, storagemigrationv1.MigrationFailed)
	for _, c := range []struct {
		wrong bool
		why   string
	}{
		{done && failed, "Both success and failed conditions cannot be true at the same time"},
		{done && running, "Running condition cannot be true when success condition is true"},
		{failed && running, "Running condition cannot be true when failed condition is true"},
		{!done && has(old, storagemigrationv1.MigrationSucceeded), "Success condition cannot be set to false once it is true"},
		{!failed && has(old, storagemigrationv1.MigrationFailed), "Failed condition cannot be set to false once it is true"},
	} {
		if c.wrong {
			errs = append(errs, field.Invalid(at, m.Status.Conditions, c.why))
		}
	}
	return errs
}
