package core

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// LimitRanges bound what a single pod, container or claim in a namespace may ask for, and say what it gets when it asks for
// nothing.
var LimitRanges = registry.Define(registry.Kind[*corev1.LimitRange]{
	Version: "v1", Kind: "LimitRange", Plural: "limitranges", Short: []string{"limits"},
	Namespaced: true,
	Default:    defaultLimitRange,
	Validate:   validateLimitRange,
	Columns:    []registry.Column[*corev1.LimitRange]{createdAt[*corev1.LimitRange]()},
})

// createdAt is the only column of kinds for which kubectl knows no others.
func createdAt[T registry.Object]() registry.Column[T] {
	return registry.Column[T]{Name: "Created At", Type: "date", Description: "When the object was created.", Value: func(o T) any {
		return o.GetCreationTimestamp().UTC().Format(time.RFC3339)
	}}
}

// defaultLimitRange says for containers what follows from what was said: the most is the default limit, a default limit the
// default request, and the least the default request where there is no default limit.
func defaultLimitRange(r *corev1.LimitRange) {
	for i := range r.Spec.Limits {
		l := &r.Spec.Limits[i]
		if l.Type != corev1.LimitTypeContainer {
			continue
		}
		fillAmounts(&l.Default, l.Max)
		fillAmounts(&l.DefaultRequest, l.Default)
		fillAmounts(&l.DefaultRequest, l.Min)
	}
}

func fillAmounts(to *corev1.ResourceList, from corev1.ResourceList) {
	for name, q := range from {
		if _, ok := (*to)[name]; ok {
			continue
		}
		if *to == nil {
			*to = corev1.ResourceList{}
		}
		(*to)[name] = q.DeepCopy()
	}
}

var limitTypes = sets.New(corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim)

func validateLimitRange(r *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.LimitType]()
	for i := range r.Spec.Limits {
		l, at := &r.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		if bad := validateQualified(string(l.Type), at.Child("type")); len(bad) > 0 {
			errs = append(errs, bad...)
		} else if !strings.Contains(string(l.Type), "/") && !limitTypes.Has(l.Type) {
			errs = append(errs, field.Invalid(at.Child("type"), l.Type, "must be a standard limit type or fully qualified"))
		}
		if seen.Has(l.Type) {
			errs = append(errs, field.Duplicate(at.Child("type"), l.Type))
		}
		seen.Insert(l.Type)
		errs = append(errs, validateLimitNames(l, at)...)
		if l.Type == corev1.LimitTypePersistentVolumeClaim {
			_, least := l.Min[corev1.ResourceStorage]
			_, most := l.Max[corev1.ResourceStorage]
			if !least && !most {
				errs = append(errs, field.Required(at.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
			}
		}
		names := sets.KeySet(l.Min).Union(sets.KeySet(l.Max)).Union(sets.KeySet(l.Default)).Union(sets.KeySet(l.DefaultRequest)).Union(sets.KeySet(l.MaxLimitRequestRatio))
		for _, name := range sets.List(names) {
			errs = append(errs, validateLimitAmounts(l, name, at)...)
		}
	}
	return errs
}

// validateLimitNames checks what is bounded.
func validateLimitNames(l *corev1.LimitRangeItem, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := podspec.ValidateAnyResource
	if l.Type == corev1.LimitTypePod || l.Type == corev1.LimitTypeContainer {
		check = podspec.ValidateResourceName
	}
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"max", l.Max}, {"min", l.Min}, {"default", l.Default}, {"defaultRequest", l.DefaultRequest}, {"maxLimitRequestRatio", l.MaxLimitRequestRatio}} {
		if l.Type == corev1.LimitTypePod && strings.HasPrefix(list.name, "default") {
			if len(list.of) > 0 {
				errs = append(errs, field.Forbidden(at.Child(list.name), "may not be specified when `type` is 'Pod'"))
			}
			continue
		}
		for _, name := range sets.List(sets.KeySet(list.of)) {
			errs = append(errs, check(name, at.Child(list.name).Key(string(name)))...)
		}
	}
	return errs
}

// validateLimitAmounts checks that the bounds of one resource leave room for each other.
func validateLimitAmounts(l *corev1.LimitRangeItem, name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	type bound struct {
		list, words string
		amount      *resource.Quantity
	}
	get := func(list, words string, from corev1.ResourceList) bound {
		if q, ok := from[name]; ok {
			return bound{list, words, &q}
		}
		return bound{}
	}
	least, most := get("min", "min", l.Min), get("max", "max", l.Max)
	limit, request, ratio := bound{}, bound{}, get("maxLimitRequestRatio", "ratio", l.MaxLimitRequestRatio)
	if l.Type != corev1.LimitTypePod {
		limit, request = get("default", "default", l.Default), get("defaultRequest", "default request", l.DefaultRequest)
	}
	below := func(a, b, blame bound, other string) {
		if a.amount != nil && b.amount != nil && a.amount.Cmp(*b.amount) > 0 {
			errs = append(errs, field.Invalid(at.Child(blame.list).Key(string(name)), blame.amount.String(),
				fmt.Sprintf("%s value %s is greater than %s value %s", a.words, a.amount.String(), other, b.amount.String())))
		}
	}
	below(least, most, least, "max")
	below(least, request, request, "default request")
	below(request, most, request, "max")
	below(request, limit, request, "default limit")
	below(least, limit, limit, "default")
	below(limit, most, limit, "max")
	if ratio.amount != nil {
		path := at.Child(ratio.list).Key(string(name))
		if ratio.amount.CmpInt64(1) < 0 {
			errs = append(errs, field.Invalid(path, ratio.amount.String(), fmt.Sprintf("ratio %s is less than 1", ratio.amount.String())))
		}
		if least.amount != nil && most.amount != nil && !least.amount.IsZero() {
			if most := most.amount.AsApproximateFloat64() / least.amount.AsApproximateFloat64(); ratio.amount.AsApproximateFloat64() > most {
				errs = append(errs, field.Invalid(path, ratio.amount.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.amount.String(), most)))
			}
		}
	}
	if !podspec.Overcommits(name) && limit.amount != nil && request.amount != nil && limit.amount.Cmp(*request.amount) != 0 {
		errs = append(errs, field.Invalid(at.Child("defaultRequest").Key(string(name)), request.amount.String(),
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.amount.String(), request.amount.String(), name)))
	}
	return errs
}
