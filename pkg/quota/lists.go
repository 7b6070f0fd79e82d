package quota

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Add is a + b, with the names of both.
func Add(a, b corev1.ResourceList) corev1.ResourceList {
	sum := make(corev1.ResourceList, len(a)+len(b))
	for name, q := range a {
		sum[name] = q.DeepCopy()
	}
	for name, q := range b {
		s := sum[name]
		s.Add(q)
		sum[name] = s
	}
	return sum
}

// More is what a has more than b, without what it has not.
func More(a, b corev1.ResourceList) corev1.ResourceList {
	more := corev1.ResourceList{}
	for name, q := range a {
		d := q.DeepCopy()
		d.Sub(b[name])
		if d.Sign() > 0 {
			more[name] = d
		}
	}
	return more
}

// Less is a − b, nowhere below zero, with the names of a.
func Less(a, b corev1.ResourceList) corev1.ResourceList {
	rest := make(corev1.ResourceList, len(a))
	for name, q := range a {
		d := q.DeepCopy()
		if d.Sub(b[name]); d.Sign() < 0 {
			d = resource.Quantity{Format: q.Format}
		}
		rest[name] = d
	}
	return rest
}

// Only is the part of a list that has these names.
func Only(list corev1.ResourceList, names []corev1.ResourceName) corev1.ResourceList {
	part := make(corev1.ResourceList, len(names))
	for _, name := range names {
		if q, ok := list[name]; ok {
			part[name] = q.DeepCopy()
		}
	}
	return part
}

// Positive is the part of a list that is not zero.
func Positive(list corev1.ResourceList) corev1.ResourceList {
	part := maps.Clone(list)
	maps.DeleteFunc(part, func(_ corev1.ResourceName, q resource.Quantity) bool { return q.Sign() <= 0 })
	return part
}

// Beyond are the names of which a is more than hard allows, sorted. What hard does not name has no limit.
func Beyond(a, hard corev1.ResourceList) []corev1.ResourceName {
	var names []corev1.ResourceName
	for name, q := range a {
		if most, ok := hard[name]; ok && q.Cmp(most) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Equal says whether two lists name the same and as much of it.
func Equal(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

// Text is a list as errors show it: name=amount,…, sorted.
func Text(list corev1.ResourceList) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		parts = append(parts, string(name)+"="+q.String())
	}
	return strings.Join(parts, ",")
}

// Join is names as errors show them.
func Join(names []corev1.ResourceName) string {
	var parts []string
	for _, n := range names {
		parts = append(parts, string(n))
	}
	return strings.Join(parts, ",")
}
