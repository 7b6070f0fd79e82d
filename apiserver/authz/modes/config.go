package modes

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/authz/webhook"
	"pilothouse.dev/apiserver/configfile"
)

// configuration is an AuthorizationConfiguration
// (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization). Its three versions
// are alike.
type configuration struct {
	metav1.TypeMeta
	Authorizers []authorizer `json:"authorizers"`
}

type authorizer struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Webhook *hook  `json:"webhook,omitempty"`
}

type hook struct {
	AuthorizedTTL             metav1.Duration `json:"authorizedTTL"`
	CacheAuthorizedRequests   *bool           `json:"cacheAuthorizedRequests,omitempty"`
	UnauthorizedTTL           metav1.Duration `json:"unauthorizedTTL"`
	CacheUnauthorizedRequests *bool           `json:"cacheUnauthorizedRequests,omitempty"`
	Timeout                   metav1.Duration `json:"timeout"`
	Version                   string          `json:"subjectAccessReviewVersion"`
	MatchVersion              string          `json:"matchConditionSubjectAccessReviewVersion"`
	FailurePolicy             string          `json:"failurePolicy"`
	ConnectionInfo            connection      `json:"connectionInfo"`
	MatchConditions           []struct {
		Expression string `json:"expression"`
	} `json:"matchConditions"`
}

type connection struct {
	Type           string  `json:"type"`
	KubeConfigFile *string `json:"kubeConfigFile"`
}

// Defaults and bounds of a webhook.
const (
	authorizedTTL   = 5 * time.Minute
	unauthorizedTTL = 30 * time.Second
	longestTimeout  = 30 * time.Second
	inFile          = "KubeConfigFile"
)

func (h *hook) config(name string) webhook.Config {
	c := webhook.Config{
		Name: name, Version: h.Version, Authorized: h.AuthorizedTTL.Duration, Unauthorized: h.UnauthorizedTTL.Duration,
		Deny: h.FailurePolicy == "Deny",
	}
	if h.CacheAuthorizedRequests != nil && !*h.CacheAuthorizedRequests {
		c.Authorized = 0
	}
	if h.CacheUnauthorizedRequests != nil && !*h.CacheUnauthorizedRequests {
		c.Unauthorized = 0
	}
	return c
}

// group is what the file's versions are of.
const group = "apiserver.config.k8s.io/"

// parse reads and checks a file.
func parse(data []byte) ([]authorizer, error) {
	d, err := configfile.Parse(data)
	if err != nil {
		return nil, err
	}
	var c configuration
	if err := d.Versioned(&c, "AuthorizationConfiguration", group+"v1", group+"v1beta1", group+"v1alpha1"); err != nil {
		return nil, err
	}
	for i := range c.Authorizers {
		if h := c.Authorizers[i].Webhook; h != nil {
			if h.AuthorizedTTL.Duration == 0 {
				h.AuthorizedTTL.Duration = authorizedTTL
			}
			if h.UnauthorizedTTL.Duration == 0 {
				h.UnauthorizedTTL.Duration = unauthorizedTTL
			}
		}
	}
	return c.Authorizers, d.Invalid(check(c.Authorizers))
}

func check(list []authorizer) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("authorizers")
	if len(list) == 0 {
		errs = append(errs, field.Required(at, "at least one authorization mode must be defined"))
	}
	types, names := sets.New[string](), sets.New[string]()
	for i, a := range list {
		at := at.Index(i)
		known := false
		for _, t := range all {
			known = known || a.Type == t
		}
		switch {
		case a.Type == "":
			errs = append(errs, field.Required(at.Child("type"), ""))
		case !known:
			errs = append(errs, field.NotSupported(at.Child("type"), a.Type, all))
		case a.Type != Webhook && types.Has(a.Type):
			errs = append(errs, field.Duplicate(at.Child("type"), a.Type))
		}
		types.Insert(a.Type)
		switch {
		case a.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case names.Has(a.Name):
			errs = append(errs, field.Duplicate(at.Child("name"), a.Name))
		default:
			for _, why := range validation.IsDNS1123Subdomain(a.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), a.Name, "authorizer name is invalid: "+why))
			}
		}
		names.Insert(a.Name)
		switch {
		case a.Type == Webhook && a.Webhook == nil:
			errs = append(errs, field.Required(at.Child("webhook"), "required when type=Webhook"))
		case a.Type == Webhook:
			errs = append(errs, checkHook(a.Webhook, at.Child("webhook"))...)
		case a.Webhook != nil:
			errs = append(errs, field.Invalid(at.Child("webhook"), "non-null", "may only be specified when type=Webhook"))
		}
	}
	return errs
}

func checkHook(h *hook, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	oneOf := func(at *field.Path, value string, of ...string) {
		if value == "" {
			errs = append(errs, field.Required(at, ""))
			return
		}
		for _, v := range of {
			if v == value {
				return
			}
		}
		errs = append(errs, field.NotSupported(at, value, of))
	}
	switch d := h.Timeout.Duration; {
	case d == 0:
		errs = append(errs, field.Required(at.Child("timeout"), ""))
	case d < 0 || d > longestTimeout:
		errs = append(errs, field.Invalid(at.Child("timeout"), d.String(), "must be > 0s and <= 30s"))
	}
	if d := h.AuthorizedTTL.Duration; d < 0 {
		errs = append(errs, field.Invalid(at.Child("authorizedTTL"), d.String(), "must be > 0s"))
	}
	if d := h.UnauthorizedTTL.Duration; d < 0 {
		errs = append(errs, field.Invalid(at.Child("unauthorizedTTL"), d.String(), "must be > 0s"))
	}
	oneOf(at.Child("subjectAccessReviewVersion"), h.Version, "v1", "v1beta1")
	if h.MatchVersion != "" {
		oneOf(at.Child("matchConditionSubjectAccessReviewVersion"), h.MatchVersion, "v1")
	}
	oneOf(at.Child("failurePolicy"), h.FailurePolicy, "NoOpinion", "Deny")
	oneOf(at.Child("connectionInfo", "type"), h.ConnectionInfo.Type, inFile)
	if h.ConnectionInfo.Type == inFile && (h.ConnectionInfo.KubeConfigFile == nil || *h.ConnectionInfo.KubeConfigFile == "") {
		errs = append(errs, field.Required(at.Child("connectionInfo", "kubeConfigFile"), ""))
	}
	if len(h.MatchConditions) > 0 {
		errs = append(errs, field.Forbidden(at.Child("matchConditions"),
			"CEL expressions are not supported here: let the webhook answer no opinion to what does not concern it"))
	}
	return errs
}
