package flowcontrol

import (
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	methods  = sets.New(flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)
	subjects = sets.New(flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindUser)
	verbs    = sets.New("get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy")
)

func validateFlow(f *flowcontrolv1.FlowSchema) field.ErrorList {
	var errs field.ErrorList
	spec, s := field.NewPath("spec"), &f.Spec
	at := spec.Child("matchingPrecedence")
	switch p := s.MatchingPrecedence; {
	case p <= 0:
		errs = append(errs, field.Invalid(at, p, "must be a positive value"))
	case p > flowcontrolv1.FlowSchemaMaxMatchingPrecedence:
		errs = append(errs, field.Invalid(at, p, fmt.Sprintf("must not be greater than %v", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	case p == 1 && f.Name != flowcontrolv1.FlowSchemaNameExempt:
		errs = append(errs, field.Invalid(at, p, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if m := s.DistinguisherMethod; m != nil && !methods.Has(m.Type) {
		errs = append(errs, field.NotSupported(spec.Child("distinguisherMethod", "type"), m.Type, sets.List(methods)))
	}
	at = spec.Child("priorityLevelConfiguration", "name")
	if name := s.PriorityLevelConfiguration.Name; name == "" {
		errs = append(errs, field.Required(at, "must reference a priority level"))
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
			errs = append(errs, field.Invalid(at, name, msg))
		}
	}
	for i := range s.Rules {
		errs = append(errs, validateRules(&s.Rules[i], spec.Child("rules").Index(i))...)
	}
	if fixed := fixedFlow(f.Name); fixed != nil && !apiequality.Semantic.DeepEqual(*s, *fixed) {
		errs = append(errs, field.Invalid(spec, *s, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name)))
	}
	return errs
}

func validateRules(r *flowcontrolv1.PolicyRulesWithSubjects, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(at.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateSubject(&r.Subjects[i], at.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i := range r.ResourceRules {
		errs = append(errs, validateResourceRule(&r.ResourceRules[i], at.Child("resourceRules").Index(i))...)
	}
	for i := range r.NonResourceRules {
		errs = append(errs, validatePathRule(&r.NonResourceRules[i], at.Child("nonResourceRules").Index(i))...)
	}
	return errs
}

// validateSubject wants what the kind names, and nothing of another kind.
func validateSubject(s *flowcontrolv1.Subject, at *field.Path) field.ErrorList {
	if !subjects.Has(s.Kind) {
		return field.ErrorList{field.NotSupported(at.Child("kind"), s.Kind, sets.List(subjects))}
	}
	var errs field.ErrorList
	part := func(kind flowcontrolv1.SubjectKind, name string, set bool, check func(*field.Path)) {
		path := at.Child(name)
		switch {
		case s.Kind != kind && set:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("%s is forbidden when subject kind is not '%s'", name, kind)))
		case s.Kind == kind && !set:
			errs = append(errs, field.Required(path, fmt.Sprintf("%s is required when subject kind is '%s'", name, kind)))
		case s.Kind == kind:
			check(path)
		}
	}
	part(flowcontrolv1.SubjectKindUser, "user", s.User != nil, func(path *field.Path) {
		if s.User.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
		}
	})
	part(flowcontrolv1.SubjectKindGroup, "group", s.Group != nil, func(path *field.Path) {
		if s.Group.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
		}
	})
	part(flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil, func(path *field.Path) {
		a := s.ServiceAccount
		if a.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
		} else if a.Name != all {
			for _, msg := range apivalidation.ValidateServiceAccountName(a.Name, false) {
				errs = append(errs, field.Invalid(path.Child("name"), a.Name, msg))
			}
		}
		if a.Namespace == "" {
			errs = append(errs, field.Required(path.Child("namespace"), "must specify namespace for service account"))
			return
		}
		for _, msg := range apivalidation.ValidateNamespaceName(a.Namespace, false) {
			errs = append(errs, field.Invalid(path.Child("namespace"), a.Namespace, msg))
		}
	})
	return errs
}

func validateResourceRule(r *flowcontrolv1.ResourcePolicyRule, at *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, at.Child("verbs"))
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	errs = append(errs, alone(r.APIGroups, at.Child("apiGroups"), "api groups")...)
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
	}
	errs = append(errs, alone(r.Resources, at.Child("resources"), "resources")...)
	at = at.Child("namespaces")
	if len(r.Namespaces) == 0 && !r.ClusterScope {
		return append(errs, field.Required(at, "resource rules that are not cluster scoped must supply at least one namespace"))
	}
	if slices.Contains(r.Namespaces, all) {
		return append(errs, alone(r.Namespaces, at, "namespaces")...)
	}
	for i, ns := range r.Namespaces {
		for _, msg := range apivalidation.ValidateNamespaceName(ns, false) {
			errs = append(errs, field.Invalid(at.Index(i), ns, "each member of this list must be '*' or a DNS-1123 label; "+msg))
		}
	}
	return errs
}

func validatePathRule(r *flowcontrolv1.NonResourcePolicyRule, at *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, at.Child("verbs"))
	at = at.Child("nonResourceURLs")
	if len(r.NonResourceURLs) == 0 {
		return append(errs, field.Required(at, "nonResourceURLs must contain at least one value"))
	}
	if slices.Contains(r.NonResourceURLs, all) {
		return append(errs, alone(r.NonResourceURLs, at, "non-resource URLs")...)
	}
	for i, url := range r.NonResourceURLs {
		if why := badPath(url); why != "" {
			errs = append(errs, field.Invalid(at.Index(i), url, why))
		}
	}
	return errs
}

// badPath says what is wrong with a path; a star may end it, after a slash.
func badPath(p string) string {
	switch stars := strings.Count(p, all); {
	case p == "":
		return "must not be empty"
	case !strings.HasPrefix(p, "/"):
		return "must start with slash"
	case strings.Contains(p, " "):
		return "must not contain white-space"
	case strings.Contains(p, "//"):
		return "must not contain double slash"
	case stars > 1, stars == 1 && !strings.HasSuffix(p, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}

func validateVerbs(given []string, at *field.Path) field.ErrorList {
	switch {
	case len(given) == 0:
		return field.ErrorList{field.Required(at, "verbs must contain at least one value")}
	case slices.Contains(given, all):
		return alone(given, at, "verbs")
	case !verbs.HasAll(given...):
		return field.ErrorList{field.NotSupported(at, given, sets.List(verbs))}
	}
	return nil
}

// alone refuses a star that has company.
func alone(list []string, at *field.Path, what string) field.ErrorList {
	if len(list) > 1 && slices.Contains(list, all) {
		return field.ErrorList{field.Invalid(at, list, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

func validateFlowStatus(f, _ *flowcontrolv1.FlowSchema) field.ErrorList {
	var types []string
	for _, c := range f.Status.Conditions {
		types = append(types, string(c.Type))
	}
	return validateConditions(types)
}

// validateConditions checks the types of a status's conditions.
func validateConditions(types []string) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, t := range types {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		if seen.Has(t) {
			errs = append(errs, field.Duplicate(at, t))
		}
		seen.Insert(t)
		if t == "" {
			errs = append(errs, field.Required(at, "must not be empty"))
		}
	}
	return errs
}
