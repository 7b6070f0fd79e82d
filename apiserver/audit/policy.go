package audit

import (
	"slices"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"pilothouse.dev/apiserver/configfile"
	"pilothouse.dev/apiserver/request"
)

var (
	levels = []auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest, auditv1.LevelRequestResponse}
	stages = []auditv1.Stage{
		auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StagePanic,
	}
)

// policy says what is told of a request. Set once.
type policy struct{ rules []rule }

// rule is a rule of the file with what holds for all of them already in it.
type rule struct {
	auditv1.PolicyRule
	decision decision
}

// decision is what is told of one request. Its zero value is nothing.
type decision struct {
	level  auditv1.Level // empty: None
	omit   uint8         // a bit a stage, as in stages
	owners bool          // managed fields are kept
}

func (d decision) none() bool { return d.level == "" || d.level == auditv1.LevelNone }

func (d decision) omits(s auditv1.Stage) bool { return d.omit&bits(s) != 0 }

func (d decision) bodies() request.Bodies {
	return request.Bodies{
		Sent:   d.level == auditv1.LevelRequest || d.level == auditv1.LevelRequestResponse,
		Answer: d.level == auditv1.LevelRequestResponse,
		Owners: d.owners,
	}
}

func bits(all ...auditv1.Stage) (b uint8) {
	for _, s := range all {
		b |= 1 << slices.Index(stages, s)
	}
	return b
}

// parsePolicy reads a policy file. An error says all that is wrong with it. What a file says that the API does not know is an
// error too: who misspells a word would else believe that something is recorded which is not.
func parsePolicy(b []byte) (*policy, error) {
	d, err := configfile.Parse(b)
	if err != nil {
		return nil, err
	}
	var in auditv1.Policy
	if err := d.Versioned(&in, "Policy", auditv1.SchemeGroupVersion.String()); err != nil {
		return nil, err
	}
	if err := d.Invalid(validatePolicy(&in)); err != nil {
		return nil, err
	}
	p := &policy{}
	for i := range in.Rules {
		r := rule{PolicyRule: in.Rules[i], decision: decision{level: in.Rules[i].Level, owners: !in.OmitManagedFields}}
		r.decision.omit = bits(in.OmitStages...) | bits(r.OmitStages...)
		if r.OmitManagedFields != nil {
			r.decision.owners = !*r.OmitManagedFields
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// validatePolicy checks what a policy says
// (https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Policy).
func validatePolicy(p *auditv1.Policy) field.ErrorList {
	if len(p.Rules) == 0 {
		return field.ErrorList{field.Required(field.NewPath("rules"), "a policy with 0 rules records nothing: give at least one")}
	}
	errs := validateStages(p.OmitStages, field.NewPath("omitStages"))
	for i := range p.Rules {
		errs = append(errs, validateRule(&p.Rules[i], field.NewPath("rules").Index(i))...)
	}
	return errs
}

func validateRule(r *auditv1.PolicyRule, path *field.Path) (errs field.ErrorList) {
	switch {
	case r.Level == "":
		errs = append(errs, field.Required(path.Child("level"), ""))
	case !slices.Contains(levels, r.Level):
		errs = append(errs, field.NotSupported(path.Child("level"), r.Level, levels))
	}
	urls := path.Child("nonResourceURLs")
	for i, url := range r.NonResourceURLs {
		if url == "*" {
			continue
		}
		if !strings.HasPrefix(url, "/") {
			errs = append(errs, field.Invalid(urls.Index(i), url, "non-resource URL rules must begin with a '/' character"))
		}
		if star := strings.IndexByte(url, '*'); star >= 0 && star != len(url)-1 {
			errs = append(errs, field.Invalid(urls.Index(i), url, "non-resource URL wildcards '*' must be the final character of the rule"))
		}
	}
	for i, g := range r.Resources {
		at := path.Child("resources").Index(i)
		if g.Group != "" && g.Group != "*" {
			for _, text := range apivalidation.NameIsDNSSubdomain(g.Group, false) {
				errs = append(errs, field.Invalid(at.Child("group"), g.Group, text))
			}
		}
		if len(g.ResourceNames) > 0 && len(g.Resources) == 0 {
			errs = append(errs, field.Invalid(at.Child("resourceNames"), g.ResourceNames, "using resourceNames requires at least one resource"))
		}
	}
	errs = append(errs, validateStages(r.OmitStages, path.Child("omitStages"))...)
	if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
		errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
	}
	return errs
}

func validateStages(omit []auditv1.Stage, path *field.Path) (errs field.ErrorList) {
	for i, s := range omit {
		if !slices.Contains(stages, s) {
			errs = append(errs, field.NotSupported(path.Index(i), s, stages))
		}
	}
	return errs
}

// decide finds the first rule that a request matches; a request that matches none is not recorded. u is nil of one that was
// refused before anybody knew whose it is.
func (p *policy) decide(u *request.User, i *request.Info) decision {
	for n := range p.rules {
		if r := &p.rules[n]; r.matches(u, i) {
			return r.decision
		}
	}
	return decision{}
}

func (r *rule) matches(u *request.User, i *request.Info) bool {
	if len(r.Users) > 0 && (u == nil || !slices.Contains(r.Users, u.Name)) {
		return false
	}
	if len(r.UserGroups) > 0 && (u == nil || !slices.ContainsFunc(r.UserGroups, u.InGroup)) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, i.Verb) {
		return false
	}
	switch {
	case len(r.NonResourceURLs) > 0:
		return !i.IsResource && slices.ContainsFunc(r.NonResourceURLs, func(url string) bool { return covers(url, i.Path) })
	case len(r.Namespaces) > 0 && (!i.IsResource || !slices.Contains(r.Namespaces, i.Namespace)):
		return false
	case len(r.Resources) > 0:
		return i.IsResource && slices.ContainsFunc(r.Resources, func(g auditv1.GroupResources) bool { return holds(&g, i) })
	}
	return true
}

func covers(url, path string) bool {
	prefix, star := strings.CutSuffix(url, "*")
	return path == url || star && strings.HasPrefix(path, prefix)
}

// holds says whether what is asked for is of these resources. As upstream has it, «pods/*» means pods themselves as well.
func holds(g *auditv1.GroupResources, i *request.Info) bool {
	if g.Group != "*" && g.Group != i.Group {
		return false
	}
	if len(g.Resources) == 0 {
		return true
	}
	if len(g.ResourceNames) > 0 && !slices.Contains(g.ResourceNames, i.Name) {
		return false
	}
	return slices.ContainsFunc(g.Resources, func(of string) bool {
		if of == "*" {
			return true
		}
		resource, sub, split := strings.Cut(of, "/")
		switch {
		case !split:
			return resource == i.Resource && i.Subresource == ""
		case resource == "*":
			return i.Subresource != "" && sub == i.Subresource
		case sub == "*":
			return resource == i.Resource
		}
		return resource == i.Resource && sub == i.Subresource
	})
}
