package lookup

import "k8s.io/apimachinery/pkg/runtime/schema"

// PluralOf is how a served kind is called in paths, and whether its objects are in namespaces.
func (l *Lookup) PluralOf(kind schema.GroupVersionKind) (plural string, namespaced, ok bool) {
	for _, r := range l.reg.All() {
		if r.GVK == kind {
			return r.Plural, r.Namespaced, true
		}
	}
	return "", false, false
}
