// Package apiregistration declares the kinds of the group apiregistration.k8s.io, a file each; see resources/core for what a
// kind's file holds. Asking another server for what an APIService names is not here.
package apiregistration

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// APIServices say who serves a version of a group: this server, or one behind a service.
var APIServices = registry.Define(registry.Kind[*apiregistrationv1.APIService]{
	Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService", Plural: "apiservices",
	Categories: []string{"api-extensions"},
	Status:     true,
	Name:       func(name string, _ bool) []string { return content.IsPathSegmentName(name) }, // what it must be, validateService knows
	Default: func(s *apiregistrationv1.APIService) {
		if s.Spec.Service != nil && s.Spec.Service.Port == nil {
			s.Spec.Service.Port = ptr.To[int32](443)
		}
	},
	BeforeCreate: func(s *apiregistrationv1.APIService) {
		s.Status = apiregistrationv1.APIServiceStatus{}
		if s.Spec.Service == nil { // nobody has to be asked
			s.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
				Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: metav1.Now().Rfc3339Copy(),
				Reason: "Local", Message: "Local APIServices are always available",
			}}
		}
	},
	Validate:       validateService,
	ValidateStatus: validateServiceStatus,
	Columns: []registry.Column[*apiregistrationv1.APIService]{
		{Name: "Service", Description: "The service behind which it is served.", Value: func(s *apiregistrationv1.APIService) any {
			if s.Spec.Service == nil {
				return "Local"
			}
			return s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
		}},
		{Name: "Available", Description: "Whether it answers.", Value: func(s *apiregistrationv1.APIService) any { return available(s) }},
		registry.Age[*apiregistrationv1.APIService](),
	},
})

func available(s *apiregistrationv1.APIService) string {
	for _, c := range s.Status.Conditions {
		switch {
		case c.Type != apiregistrationv1.Available:
		case c.Status == apiregistrationv1.ConditionTrue:
			return string(c.Status)
		default:
			return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
		}
	}
	return string(apiregistrationv1.ConditionUnknown)
}

const (
	mostGroupPriority   = 20000
	mostVersionPriority = 1000
)

func validateService(s *apiregistrationv1.APIService) field.ErrorList {
	var errs field.ErrorList
	spec, p := field.NewPath("spec"), &s.Spec
	if want := p.Version + "." + p.Group; s.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), s.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want)))
	}
	if p.Group == "" {
		if p.Version != "v1" {
			errs = append(errs, field.Required(spec.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
		}
	} else {
		for _, msg := range validation.IsDNS1123Subdomain(p.Group) {
			errs = append(errs, field.Invalid(spec.Child("group"), p.Group, msg))
		}
	}
	for _, msg := range validation.IsDNS1035Label(p.Version) {
		errs = append(errs, field.Invalid(spec.Child("version"), p.Version, msg))
	}
	if n := p.GroupPriorityMinimum; n <= 0 || n > mostGroupPriority {
		errs = append(errs, field.Invalid(spec.Child("groupPriorityMinimum"), n, "must be positive and less than 20000"))
	}
	if n := p.VersionPriority; n <= 0 || n > mostVersionPriority {
		errs = append(errs, field.Invalid(spec.Child("versionPriority"), n, "must be positive and less than 1000"))
	}
	if p.Service == nil {
		if len(p.CABundle) > 0 {
			errs = append(errs, field.Invalid(spec.Child("caBundle"), fmt.Sprintf("%d bytes", len(p.CABundle)), "local APIServices may not have a caBundle"))
		}
		if p.InsecureSkipTLSVerify {
			errs = append(errs, field.Invalid(spec.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
		}
		return errs
	}
	at := spec.Child("service")
	if p.Service.Namespace == "" {
		errs = append(errs, field.Required(at.Child("namespace"), ""))
	}
	if p.Service.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	if port := ptr.Deref(p.Service.Port, 443); len(validation.IsValidPortNum(int(port))) > 0 {
		errs = append(errs, field.Invalid(at.Child("port"), port, "port is not valid: "+strings.Join(validation.IsValidPortNum(int(port)), ", ")))
	}
	if p.InsecureSkipTLSVerify && len(p.CABundle) > 0 {
		errs = append(errs, field.Invalid(spec.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present"))
	}
	return errs
}

func validateServiceStatus(s, _ *apiregistrationv1.APIService) field.ErrorList {
	var errs field.ErrorList
	legal := []apiregistrationv1.ConditionStatus{apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown}
	for i, c := range s.Status.Conditions {
		if c.Status != legal[0] && c.Status != legal[1] && c.Status != legal[2] {
			errs = append(errs, field.NotSupported(field.NewPath("status", "conditions").Index(i).Child("status"), c.Status, legal))
		}
	}
	return errs
}
