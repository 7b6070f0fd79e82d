package flowcontrol

import (
	"cmp"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"pilothouse.dev/apiserver/request"
)

// Schema is a FlowSchema, compiled: nothing of it is changed after Compile.
type Schema struct {
	Name  string
	UID   string
	Level string // the name of its priority level, which need not exist
	// Dangling is what its status says of that (True, False or nothing), and Because the message with it.
	Dangling, Because string

	precedence int32
	by         flowcontrolv1.FlowDistinguisherMethodType // empty: all its requests are one flow
	rules      []rule
	header     []string // UID as a header's value
}

// Compile makes a Schema. It keeps nothing of f.
func Compile(f *flowcontrolv1.FlowSchema) *Schema {
	s := &Schema{
		Name: f.Name, UID: string(f.UID), Level: f.Spec.PriorityLevelConfiguration.Name,
		precedence: f.Spec.MatchingPrecedence, header: []string{string(f.UID)},
	}
	if m := f.Spec.DistinguisherMethod; m != nil {
		s.by = m.Type
	}
	for i := range f.Spec.Rules {
		s.rules = append(s.rules, compileRule(&f.Spec.Rules[i]))
	}
	for _, c := range f.Status.Conditions {
		if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
			s.Dangling, s.Because = string(c.Status), c.Message
		}
	}
	return s
}

// Schemas are all schemas in the order in which they are tried.
type Schemas struct{ InOrder []*Schema }

// Order makes Schemas: lower precedences first, and of the same one by name
// (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#flowschema).
func Order(all []*Schema) *Schemas {
	s := &Schemas{slices.Clone(all)}
	slices.SortFunc(s.InOrder, func(a, b *Schema) int {
		return cmp.Or(cmp.Compare(a.precedence, b.precedence), strings.Compare(a.Name, b.Name))
	})
	return s
}

// matches says whether a request is of this schema: one of its rules names both who asks and what is asked.
func (s *Schema) matches(u *request.User, i *request.Info) bool {
	for n := range s.rules {
		if r := &s.rules[n]; r.what(i) && r.who(u) {
			return true
		}
	}
	return false
}

// distinguish tells flows of a schema apart.
func (s *Schema) distinguish(u *request.User, i *request.Info) string {
	switch s.by {
	case flowcontrolv1.FlowDistinguisherMethodByUserType:
		return u.Name
	case flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
		return i.Namespace
	}
	return ""
}

// words is a list in which a star stands for everything.
type words struct {
	all  bool
	some []string
}

func wordsOf(list []string) words {
	if slices.Contains(list, flowcontrolv1.VerbAll) {
		return words{all: true}
	}
	return words{some: slices.Clone(list)}
}

func (w *words) has(s string) bool { return w.all || slices.Contains(w.some, s) }

// rule is some subjects and what they ask.
type rule struct {
	users      words
	groups     words
	accounts   []string // whole user names
	namespaces []string // prefixes of the user names of all accounts of a namespace

	resources []resources
	paths     []paths
}

type resources struct {
	verbs, groups, plurals, namespaces words
	cluster                            bool // also what is in no namespace
}

type paths struct {
	verbs    words
	whole    words
	prefixes []string
}

const accountPrefix = "system:serviceaccount:"

func compileRule(p *flowcontrolv1.PolicyRulesWithSubjects) rule {
	var r rule
	var users, groups []string
	for _, s := range p.Subjects {
		switch {
		case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
			users = append(users, s.User.Name)
		case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
			groups = append(groups, s.Group.Name)
		case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
			prefix := accountPrefix + s.ServiceAccount.Namespace + ":"
			if s.ServiceAccount.Name == flowcontrolv1.NameAll {
				r.namespaces = append(r.namespaces, prefix)
			} else {
				r.accounts = append(r.accounts, prefix+s.ServiceAccount.Name)
			}
		}
	}
	r.users, r.groups = wordsOf(users), wordsOf(groups)
	for _, w := range p.ResourceRules {
		r.resources = append(r.resources, resources{wordsOf(w.Verbs), wordsOf(w.APIGroups), wordsOf(w.Resources), wordsOf(w.Namespaces), w.ClusterScope})
	}
	for _, w := range p.NonResourceRules {
		one := paths{verbs: wordsOf(w.Verbs), whole: wordsOf(w.NonResourceURLs)}
		for _, url := range one.whole.some {
			if prefix, ok := strings.CutSuffix(url, "*"); ok {
				one.prefixes = append(one.prefixes, prefix)
			}
		}
		r.paths = append(r.paths, one)
	}
	return r
}

func (r *rule) who(u *request.User) bool {
	if r.users.has(u.Name) || r.groups.all {
		return true
	}
	for _, g := range r.groups.some {
		if u.InGroup(g) {
			return true
		}
	}
	if len(r.accounts)+len(r.namespaces) == 0 || !strings.HasPrefix(u.Name, accountPrefix) {
		return false
	}
	return slices.Contains(r.accounts, u.Name) ||
		slices.ContainsFunc(r.namespaces, func(prefix string) bool { return strings.HasPrefix(u.Name, prefix) })
}

func (r *rule) what(i *request.Info) bool {
	if i.IsResource {
		for n := range r.resources {
			if r.resources[n].match(i) {
				return true
			}
		}
		return false
	}
	for n := range r.paths {
		if r.paths[n].match(i) {
			return true
		}
	}
	return false
}

func (r *resources) match(i *request.Info) bool {
	if i.Namespace == "" && !r.cluster || i.Namespace != "" && !r.namespaces.has(i.Namespace) {
		return false
	}
	return r.verbs.has(i.Verb) && r.groups.has(i.Group) && (r.plurals.all || slices.ContainsFunc(r.plurals.some, func(s string) bool { return isNamed(i, s) }))
}

// isNamed says whether a rule's word, «pods» or «pods/status», is what is asked for.
func isNamed(i *request.Info, word string) bool {
	if i.Subresource == "" {
		return word == i.Resource
	}
	n := len(i.Resource)
	return len(word) == n+1+len(i.Subresource) && word[:n] == i.Resource && word[n] == '/' && word[n+1:] == i.Subresource
}

func (p *paths) match(i *request.Info) bool {
	return p.verbs.has(i.Verb) &&
		(p.whole.has(i.Path) || slices.ContainsFunc(p.prefixes, func(prefix string) bool { return strings.HasPrefix(i.Path, prefix) }))
}
