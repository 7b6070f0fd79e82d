package admissionregistration

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/resources/hookspec"
)

// hook is what validating and mutating webhooks have in common; its fields point into one.
type hook struct {
	name         string
	client       *admissionregistrationv1.WebhookClientConfig
	rules        []admissionregistrationv1.RuleWithOperations
	failure      **admissionregistrationv1.FailurePolicyType
	match        **admissionregistrationv1.MatchPolicyType
	namespaces   **metav1.LabelSelector
	objects      **metav1.LabelSelector
	effects      *admissionregistrationv1.SideEffectClass
	timeout      **int32
	reviews      []string
	conditions   []admissionregistrationv1.MatchCondition
	reinvocation *admissionregistrationv1.ReinvocationPolicyType
}

func validatingHook(w *admissionregistrationv1.ValidatingWebhook) hook {
	return hook{
		w.Name, &w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, w.SideEffects,
		&w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions, nil,
	}
}

func mutatingHook(w *admissionregistrationv1.MutatingWebhook) hook {
	return hook{
		w.Name, &w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, w.SideEffects,
		&w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions, w.ReinvocationPolicy,
	}
}

func defaultHook(h hook) {
	fill(h.failure, admissionregistrationv1.Fail)
	fill(h.match, admissionregistrationv1.Equivalent)
	fill(h.namespaces, metav1.LabelSelector{})
	fill(h.objects, metav1.LabelSelector{})
	fill(h.timeout, 10)
	if s := h.client.Service; s != nil {
		fill(&s.Port, 443)
	}
	for i := range h.rules {
		defaultRule(&h.rules[i].Rule)
	}
}

const longestTimeout = 30 // seconds

var (
	effects = sets.New(admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun)
	// The versions of AdmissionReview that this server speaks.
	reviews = []string{"v1", "v1beta1"}
)

func validateHooks(hooks []hook) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, h := range hooks {
		at := field.NewPath("webhooks").Index(i)
		errs = append(errs, validateHook(h, at)...)
		if h.name != "" && names.Has(h.name) {
			errs = append(errs, field.Duplicate(at.Child("name"), h.name))
		}
		names.Insert(h.name)
	}
	return errs
}

func validateHook(h hook, at *field.Path) field.ErrorList {
	errs := validation.IsFullyQualifiedName(at.Child("name"), h.name)
	errs = append(errs, validateReviews(h.reviews, at.Child("admissionReviewVersions"))...)
	for i := range h.rules {
		errs = append(errs, validateRule(&h.rules[i], at.Child("rules").Index(i))...)
	}
	errs = append(errs, oneOf(*h.failure, failures, at.Child("failurePolicy"))...)
	errs = append(errs, oneOf(*h.match, matchPolicies, at.Child("matchPolicy"))...)
	if h.effects == nil {
		errs = append(errs, field.Required(at.Child("sideEffects"), "must specify one of None, NoneOnDryRun"))
	}
	errs = append(errs, oneOf(h.effects, effects, at.Child("sideEffects"))...)
	errs = append(errs, oneOf(h.reinvocation, reinvocations, at.Child("reinvocationPolicy"))...)
	if t := *h.timeout; t != nil && (*t < 1 || *t > longestTimeout) {
		errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds"))
	}
	if *h.namespaces != nil {
		errs = append(errs, validateSelector(*h.namespaces, at.Child("namespaceSelector"))...)
	}
	if *h.objects != nil {
		errs = append(errs, validateSelector(*h.objects, at.Child("objectSelector"))...)
	}
	var service *hookspec.Service
	if s := h.client.Service; s != nil {
		service = &hookspec.Service{Namespace: s.Namespace, Name: s.Name, Path: s.Path, Port: s.Port}
	}
	errs = append(errs, hookspec.Validate(h.client.URL, service, at.Child("clientConfig"))...)
	return append(errs, validateConditions(h.conditions, at.Child("matchConditions"))...)
}

func validateReviews(versions []string, at *field.Path) field.ErrorList {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(at, "must specify one of "+strings.Join(reviews, ", "))}
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, v := range versions {
		if seen.Has(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, "duplicate version"))
			continue
		}
		seen.Insert(v)
		for _, msg := range validation.IsDNS1035Label(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, msg))
		}
	}
	if !seen.HasAny(reviews...) {
		errs = append(errs, field.Invalid(at, versions, "must include at least one of "+strings.Join(reviews, ", ")))
	}
	return errs
}
