package core

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// Namespaces are the rooms in which everything namespaced lives.
var Namespaces = registry.Define(registry.Kind[*corev1.Namespace]{
	Version: "v1", Kind: "Namespace", Plural: "namespaces", Short: []string{"ns"},
	Status:         true,
	Verbs:          []string{"create", "delete", "get", "list", "patch", "update", "watch"}, // never many at once
	Name:           apivalidation.NameIsDNSLabel,
	Default:        defaultNamespace,
	BeforeCreate:   prepareNamespace,
	BeforeUpdate:   func(ns, old *corev1.Namespace) { ns.Spec.Finalizers = old.Spec.Finalizers },
	OnDelete:       func(ns *corev1.Namespace) { ns.Status.Phase = corev1.NamespaceTerminating },
	Hold:           func(ns *corev1.Namespace) bool { return len(ns.Spec.Finalizers) > 0 },
	Validate:       validateNamespace,
	ValidateStatus: validateNamespaceStatus,
	FieldNames:     []string{"status.phase"},
	Fields: func(ns *corev1.Namespace) fields.Set {
		return fields.Set{"status.phase": string(ns.Status.Phase)}
	},
	Columns: []registry.Column[*corev1.Namespace]{
		{Name: "Status", Description: "The status of the namespace.", Value: func(ns *corev1.Namespace) any { return string(ns.Status.Phase) }},
		registry.Age[*corev1.Namespace](),
	},
})

// defaultNamespace keeps the label by which selectors find a namespace by its name.
func defaultNamespace(ns *corev1.Namespace) {
	if ns.Name == "" {
		return // not to be had; the write path refuses it
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func prepareNamespace(ns *corev1.Namespace) {
	defaultNamespace(ns)
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	for _, f := range ns.Spec.Finalizers {
		if f == corev1.FinalizerKubernetes {
			return
		}
	}
	ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
}

func validateNamespace(ns *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, f := range ns.Spec.Finalizers {
		path := field.NewPath("spec", "finalizers").Index(i)
		for _, msg := range validation.IsQualifiedName(string(f)) {
			errs = append(errs, field.Invalid(path, f, msg))
		}
		if len(errs) == 0 && f != corev1.FinalizerKubernetes && !qualified(string(f)) {
			errs = append(errs, field.Invalid(path, f, "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

func validateNamespaceStatus(ns, _ *corev1.Namespace) field.ErrorList {
	path := field.NewPath("status", "phase")
	switch terminating := ns.Status.Phase == corev1.NamespaceTerminating; {
	case ns.DeletionTimestamp == nil && terminating:
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
	case ns.DeletionTimestamp != nil && !terminating:
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
