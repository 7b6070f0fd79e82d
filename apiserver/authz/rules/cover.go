package rules

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// maxRights bounds how many single rights are looked at for one answer: a role of some kilobytes can name millions.
const maxRights = 1 << 17

// ErrTooMany says that rules name too many single rights to be compared.
type ErrTooMany struct{ Rights int }

func (e *ErrTooMany) Error() string {
	return fmt.Sprintf("the rules name %d rights, which is too many to be checked: name fewer verbs, groups, resources and names in a rule", e.Rights)
}

// Missing are the rights that wanted grants and held does not, as rules of one group and resource each, in a settled order; nil when
// held has them all. An asterisk is only held by who holds an asterisk. ErrTooMany when that cannot be said in reasonable time.
func Missing(held, wanted []rbacv1.PolicyRule) ([]rbacv1.PolicyRule, error) {
	rights := 0
	for i := range wanted {
		rights += count(&wanted[i])
	}
	if rights > maxRights {
		return nil, &ErrTooMany{rights}
	}
	var missing []rbacv1.PolicyRule
	for i := range wanted {
		w := &wanted[i]
		if slices.ContainsFunc(held, func(h rbacv1.PolicyRule) bool { return coversRule(&h, w) }) {
			continue
		}
		for _, url := range w.NonResourceURLs {
			if lacks := lacking(held, w.Verbs, func(h *rbacv1.PolicyRule) bool { return coversURL(h.NonResourceURLs, url) }); len(lacks) > 0 {
				missing = append(missing, rbacv1.PolicyRule{NonResourceURLs: []string{url}, Verbs: lacks})
			}
		}
		for _, group := range w.APIGroups {
			for _, resource := range w.Resources {
				for _, name := range namesOf(w) {
					lacks := lacking(held, w.Verbs, func(h *rbacv1.PolicyRule) bool {
						return named(h.APIGroups, group) && coversName(h.Resources, resource) && coversObject(h.ResourceNames, name)
					})
					if len(lacks) == 0 {
						continue
					}
					m := rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: lacks}
					if name != "" {
						m.ResourceNames = []string{name}
					}
					missing = append(missing, m)
				}
			}
		}
	}
	return Compact(missing), nil
}

func count(r *rbacv1.PolicyRule) int {
	return len(r.Verbs) * (len(r.NonResourceURLs) + len(r.APIGroups)*len(r.Resources)*max(len(r.ResourceNames), 1))
}

// namesOf are the objects that a rule is about; the empty one stands for all.
func namesOf(r *rbacv1.PolicyRule) []string {
	if len(r.ResourceNames) == 0 {
		return []string{""}
	}
	return r.ResourceNames
}

// lacking are the verbs that no rule of those that match holds.
func lacking(held []rbacv1.PolicyRule, wanted []string, matches func(*rbacv1.PolicyRule) bool) []string {
	lacks := wanted
	for i := range held {
		h := &held[i]
		if !slices.ContainsFunc(lacks, func(v string) bool { return named(h.Verbs, v) }) || !matches(h) {
			continue
		}
		var rest []string
		for _, v := range lacks {
			if !named(h.Verbs, v) {
				rest = append(rest, v)
			}
		}
		if lacks = rest; len(lacks) == 0 {
			return nil
		}
	}
	return lacks
}

// coversName says whether resources of one rule hold a resource as another rule names it.
func coversName(list []string, name string) bool {
	if slices.Contains(list, name) || slices.Contains(list, "*") {
		return true
	}
	_, sub := split(name)
	return sub != "" && slices.Contains(list, "*/"+sub)
}

// coversObject says whether the names of a rule hold one name; none of them holds all, and the empty name is all.
func coversObject(names []string, name string) bool {
	return len(names) == 0 || name != "" && slices.Contains(names, name)
}

// coversRule says whether one rule alone holds all of another: the usual case, without looking at single rights.
func coversRule(h, w *rbacv1.PolicyRule) bool {
	all := func(list []string, ok func(string) bool) bool {
		return !slices.ContainsFunc(list, func(s string) bool { return !ok(s) })
	}
	return all(w.Verbs, func(s string) bool { return named(h.Verbs, s) }) &&
		all(w.NonResourceURLs, func(s string) bool { return coversURL(h.NonResourceURLs, s) }) &&
		all(w.APIGroups, func(s string) bool { return named(h.APIGroups, s) }) &&
		all(w.Resources, func(s string) bool { return coversName(h.Resources, s) }) &&
		(len(w.Resources) == 0 || all(namesOf(w), func(s string) bool { return coversObject(h.ResourceNames, s) }))
}

// Compact puts the verbs of rules that are about the same together, and the rules in order.
func Compact(list []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	at := map[string]int{}
	for _, r := range list {
		bare := r
		bare.Verbs = nil
		key := Describe(&bare)
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, bare)
		}
		for _, v := range r.Verbs {
			if !slices.Contains(out[i].Verbs, v) {
				out[i].Verbs = append(out[i].Verbs, v)
			}
		}
	}
	slices.SortFunc(out, func(a, b rbacv1.PolicyRule) int { return strings.Compare(Describe(&a), Describe(&b)) })
	return out
}

// Describe writes a rule in the form that Kubernetes users know from refusals.
func Describe(r *rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name string
		list []string
	}{
		{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs}, {"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs},
	} {
		if len(p.list) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.list))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
