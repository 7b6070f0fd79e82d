package plugins

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// limitRanger gives containers the resources that their namespace has defaults for, and refuses pods and claims outside its
// bounds (https://kubernetes.io/docs/concepts/policy/limit-range/).
type limitRanger struct{ ranges LimitRanges }

func (*limitRanger) Name() string { return "LimitRanger" }

// annotationLimits tells what was filled in.
const annotationLimits = "kubernetes.io/limit-ranger"

func (p *limitRanger) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	ranges, err := p.ranges.LimitRanges(ctx, a.Namespace, true)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		fillLimits(a.Object.(*corev1.Pod), r)
	}
	return nil
}

func (p *limitRanger) Validate(ctx context.Context, a *admission.Attributes) error {
	if !limited(a) || a.Object.GetDeletionTimestamp() != nil {
		return nil
	}
	// What Mutate has just read of the newest state is at hand.
	ranges, err := p.ranges.LimitRanges(ctx, a.Namespace, a.Operation != admission.Create || !a.Is("", "pods"))
	if err != nil {
		return err
	}
	for _, r := range ranges {
		var errs []error
		switch o := a.Object.(type) {
		case *corev1.Pod:
			errs = checkPod(o, r)
		case *corev1.PersistentVolumeClaim:
			errs = checkClaim(o, r)
		}
		if len(errs) > 0 {
			return forbid(a, "%w", utilerrors.NewAggregate(errs))
		}
	}
	return nil
}

// limited says whether a write may change what is limited: a new pod, a pod's resize, a claim.
func limited(a *admission.Attributes) bool {
	switch a.Resource.GroupResource().String() {
	case "pods":
		return a.Operation == admission.Create && a.Subresource == "" || a.Operation == admission.Update && a.Subresource == "resize"
	case "persistentvolumeclaims":
		return a.Subresource == "" && (a.Operation == admission.Create || a.Operation == admission.Update)
	}
	return false
}

// fillLimits gives containers what they leave out and the range has a default for, and notes so.
func fillLimits(p *corev1.Pod, r *corev1.LimitRange) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, l := range r.Spec.Limits {
		if l.Type == corev1.LimitTypeContainer {
			maps.Copy(requests, l.DefaultRequest)
			maps.Copy(limits, l.Default)
		}
	}
	var notes []string
	for kind, c := range pod.Containers(p) {
		name := "container " + c.Name
		switch kind {
		case pod.Ephemeral:
			continue
		case pod.Init:
			name = "init " + name
		}
		if set := fill(&c.Resources.Requests, requests); len(set) > 0 {
			notes = append(notes, strings.Join(set, ", ")+" request for "+name)
		}
		if set := fill(&c.Resources.Limits, limits); len(set) > 0 {
			notes = append(notes, strings.Join(set, ", ")+" limit for "+name)
		}
	}
	if len(notes) > 0 {
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[annotationLimits] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
	}
}

// fill adds what is missing and returns its names, sorted.
func fill(have *corev1.ResourceList, defaults corev1.ResourceList) []string {
	var set []string
	for name, q := range defaults {
		if _, ok := (*have)[name]; ok {
			continue
		}
		if *have == nil {
			*have = corev1.ResourceList{}
		}
		(*have)[name] = q.DeepCopy()
		set = append(set, string(name))
	}
	slices.Sort(set)
	return set
}

// forAll calls f for each resource of a list, in the order of their names.
func forAll(list corev1.ResourceList, f func(b bound)) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		f(bound{name, list[name]})
	}
}

func checkPod(p *corev1.Pod, r *corev1.LimitRange) []error {
	var errs []error
	for _, l := range r.Spec.Limits {
		switch l.Type {
		case corev1.LimitTypeContainer:
			for kind, c := range pod.Containers(p) {
				if kind != pod.Ephemeral {
					errs = append(errs, check(l, c.Resources.Requests, c.Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			requests, limits := podTotals(p)
			errs = append(errs, check(l, requests, limits)...)
		}
	}
	return errs
}

func check(l corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	forAll(l.Min, func(b bound) { add(b.least(l.Type, requests, limits)) })
	forAll(l.Max, func(b bound) { add(b.most(l.Type, requests, limits)) })
	forAll(l.MaxLimitRequestRatio, func(b bound) { add(b.ratio(l.Type, requests, limits)) })
	return errs
}

// checkClaim checks a claim, of which only requests are limited.
func checkClaim(c *corev1.PersistentVolumeClaim, r *corev1.LimitRange) []error {
	var errs []error
	for _, l := range r.Spec.Limits {
		if l.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		requests := c.Spec.Resources.Requests
		forAll(l.Min, func(b bound) {
			if err := b.least(l.Type, requests, nil); err != nil {
				errs = append(errs, err)
			}
		})
		forAll(l.Max, func(b bound) {
			request, ok := requests[b.name]
			switch {
			case !ok:
				errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", b.name, l.Type, b.value.String()))
			case request.Cmp(b.value) > 0:
				errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s, but request is %s", b.name, l.Type, b.value.String(), request.String()))
			}
		})
	}
	return errs
}
