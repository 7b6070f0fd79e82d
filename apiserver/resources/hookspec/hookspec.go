// Package hookspec checks where a webhook is, for every kind that names one (webhook configurations, the conversion of custom
// resources): by the URL or by the service of a client configuration. Pure functions, called by the kinds' files above; calling a
// webhook is the room hookclient's.
package hookspec

import (
	"fmt"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Service is where a service serves a webhook. A Port of nil is the default.
type Service struct {
	Namespace, Name string
	Path            *string
	Port            *int32
}

// Validate wants one of a URL and a service; at is the client configuration's path.
func Validate(address *string, s *Service, at *field.Path) field.ErrorList {
	switch {
	case (address == nil) == (s == nil):
		return field.ErrorList{field.Required(at, "exactly one of url or service is required")}
	case address != nil:
		return validateURL(*address, at.Child("url"))
	}
	return validateService(s, at.Child("service"))
}

const form = "; desired format: https://host[/path]"

func validateURL(address string, at *field.Path) field.ErrorList {
	u, err := url.Parse(address)
	if err != nil {
		return field.ErrorList{field.Required(at, "url must be a valid URL: "+err.Error()+form)}
	}
	var errs field.ErrorList
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(at, u.Scheme, "'https' is the only allowed URL scheme"+form))
	}
	if u.Host == "" {
		errs = append(errs, field.Invalid(at, u.Host, "host must be specified"+form))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(at, u.User.String(), "user information is not permitted in the URL"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(at, u.Fragment, "fragments are not permitted in the URL"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(at, u.RawQuery, "query parameters are not permitted in the URL"))
	}
	return errs
}

func validateService(s *Service, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "service name is required"))
	}
	if s.Namespace == "" {
		errs = append(errs, field.Required(at.Child("namespace"), "service namespace is required"))
	}
	if s.Port != nil {
		if msgs := validation.IsValidPortNum(int(*s.Port)); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("port"), *s.Port, "port is not valid: "+strings.Join(msgs, ", ")))
		}
	}
	if s.Path == nil || *s.Path == "" || *s.Path == "/" {
		return errs
	}
	path, at := *s.Path, at.Child("path")
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		errs = append(errs, field.Invalid(at, path, "must start with a '/'"))
	}
	for i, step := range strings.Split(strings.TrimSuffix(rest, "/"), "/") {
		if step == "" {
			errs = append(errs, field.Invalid(at, path, fmt.Sprintf("segment[%d] may not be empty", i)))
			continue
		}
		for _, msg := range validation.IsDNS1123Subdomain(step) {
			errs = append(errs, field.Invalid(at, path, fmt.Sprintf("segment[%d]: %v", i, msg)))
		}
	}
	return errs
}
