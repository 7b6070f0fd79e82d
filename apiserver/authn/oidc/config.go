package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/configfile"
	"pilothouse.dev/pkg/pki"
)

// document is the file of --authentication-config, an AuthenticationConfiguration
// (https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/).
type document struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	JWT        []trusted      `json:"jwt"`
	Anonymous  *anonymousness `json:"anonymous,omitempty"`
}

type anonymousness struct {
	Enabled    bool `json:"enabled"`
	Conditions []struct {
		Path string `json:"path"`
	} `json:"conditions,omitempty"`
}

// trusted is an issuer, and what its tokens' claims mean.
type trusted struct {
	Issuer struct {
		URL                  string   `json:"url"`
		DiscoveryURL         string   `json:"discoveryURL,omitempty"`
		CertificateAuthority string   `json:"certificateAuthority,omitempty"`
		Audiences            []string `json:"audiences"`
		AudienceMatchPolicy  string   `json:"audienceMatchPolicy,omitempty"`
		EgressSelectorType   string   `json:"egressSelectorType,omitempty"`
	} `json:"issuer"`
	ClaimValidationRules []claimRule `json:"claimValidationRules,omitempty"`
	ClaimMappings        struct {
		Username mapping `json:"username"`
		Groups   mapping `json:"groups,omitempty"`
		UID      struct {
			Claim      string `json:"claim,omitempty"`
			Expression string `json:"expression,omitempty"`
		} `json:"uid,omitempty"`
		Extra []struct {
			Key             string `json:"key"`
			ValueExpression string `json:"valueExpression"`
		} `json:"extra,omitempty"`
	} `json:"claimMappings"`
	UserValidationRules []struct {
		Expression string `json:"expression"`
		Message    string `json:"message,omitempty"`
	} `json:"userValidationRules,omitempty"`

	// Methods are the signing methods that count; only the flags say them, in the file all do.
	Methods []string `json:"-"`
}

type claimRule struct {
	Claim         string `json:"claim,omitempty"`
	RequiredValue string `json:"requiredValue,omitempty"`
	Expression    string `json:"expression,omitempty"`
	Message       string `json:"message,omitempty"`
}

type mapping struct {
	Claim      string  `json:"claim,omitempty"`
	Prefix     *string `json:"prefix,omitempty"`
	Expression string  `json:"expression,omitempty"`
}

const (
	group       = "apiserver.config.k8s.io/"
	kind        = "AuthenticationConfiguration"
	mostIssuers = 64
	matchAny    = "MatchAny"
)

// noExpression is the answer to what is written in CEL.
const noExpression = "expressions are not supported by this server: use claim and prefix, or claim and requiredValue"

// parse reads and checks the file.
func parse(text []byte, cfg Config) (*document, error) {
	in, err := configfile.Parse(text)
	if err != nil {
		return nil, err
	}
	d := &document{}
	if err := in.Versioned(d, kind, group+"v1", group+"v1beta1"); err != nil {
		return nil, err
	}
	if d.Anonymous != nil && cfg.AnonymousSet {
		return nil, errors.New("--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file")
	}
	return d, in.Invalid(d.validate(cfg.Disallowed))
}

func (d *document) validate(disallowed []string) field.ErrorList {
	at := field.NewPath("jwt")
	if len(d.JWT) > mostIssuers {
		return field.ErrorList{field.TooMany(at, len(d.JWT), mostIssuers)}
	}
	var errs field.ErrorList
	urls, discoveries := map[string]bool{}, map[string]bool{}
	for i := range d.JWT {
		t, at := &d.JWT[i], at.Index(i)
		errs = append(errs, t.validate(at, disallowed)...)
		if urls[t.Issuer.URL] {
			errs = append(errs, field.Duplicate(at.Child("issuer", "url"), t.Issuer.URL))
		}
		urls[t.Issuer.URL] = true
		if u := t.Issuer.DiscoveryURL; u != "" {
			if discoveries[u] {
				errs = append(errs, field.Duplicate(at.Child("issuer", "discoveryURL"), u))
			}
			discoveries[u] = true
		}
	}
	if a := d.Anonymous; a != nil && !a.Enabled && len(a.Conditions) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("anonymous", "conditions"), a.Conditions, "enabled should be set to true when conditions are defined"))
	}
	return errs
}

func (t *trusted) validate(at *field.Path, disallowed []string) field.ErrorList {
	errs := t.validateIssuer(at.Child("issuer"), disallowed)
	seen := map[string]bool{}
	for i, r := range t.ClaimValidationRules {
		at := at.Child("claimValidationRules").Index(i)
		switch {
		case r.Expression != "":
			errs = append(errs, field.Forbidden(at.Child("expression"), noExpression))
		case r.Claim == "":
			errs = append(errs, field.Required(at, "claim or expression is required"))
		case r.Message != "":
			errs = append(errs, field.Invalid(at.Child("message"), r.Message, "may not be specified when claim is set"))
		case seen[r.Claim]:
			errs = append(errs, field.Duplicate(at.Child("claim"), r.Claim))
		}
		seen[r.Claim] = true
	}
	m, mapped := &t.ClaimMappings, at.Child("claimMappings")
	errs = append(errs, m.Username.validate(mapped.Child("username"), true)...)
	errs = append(errs, m.Groups.validate(mapped.Child("groups"), false)...)
	if m.UID.Expression != "" {
		errs = append(errs, field.Forbidden(mapped.Child("uid", "expression"), noExpression))
	}
	for i := range m.Extra {
		errs = append(errs, field.Forbidden(mapped.Child("extra").Index(i).Child("valueExpression"), noExpression))
	}
	for i := range t.UserValidationRules {
		errs = append(errs, field.Forbidden(at.Child("userValidationRules").Index(i).Child("expression"), noExpression))
	}
	return errs
}

func (t *trusted) validateIssuer(at *field.Path, disallowed []string) field.ErrorList {
	i := &t.Issuer
	var errs field.ErrorList
	if i.URL == "" {
		errs = append(errs, field.Required(at.Child("url"), ""))
	} else {
		errs = append(errs, validateURL(i.URL, at.Child("url"))...)
		if slices.Contains(disallowed, i.URL) {
			errs = append(errs, field.Invalid(at.Child("url"), i.URL, fmt.Sprintf("URL must not overlap with disallowed issuers: %s", disallowed)))
		}
	}
	if i.DiscoveryURL != "" {
		if strings.TrimRight(i.URL, "/") == strings.TrimRight(i.DiscoveryURL, "/") {
			errs = append(errs, field.Invalid(at.Child("discoveryURL"), i.DiscoveryURL, "discoveryURL must be different from URL"))
		}
		errs = append(errs, validateURL(i.DiscoveryURL, at.Child("discoveryURL"))...)
	}
	if len(i.Audiences) == 0 {
		errs = append(errs, field.Required(at.Child("audiences"), "at least one "+at.Child("audiences").String()+" is required"))
	}
	seen := map[string]bool{}
	for n, a := range i.Audiences {
		at := at.Child("audiences").Index(n)
		if a == "" {
			errs = append(errs, field.Required(at, ""))
		}
		if seen[a] {
			errs = append(errs, field.Duplicate(at, a))
		}
		seen[a] = true
	}
	policy := at.Child("audienceMatchPolicy")
	switch {
	case len(i.Audiences) > 1 && i.AudienceMatchPolicy != matchAny:
		errs = append(errs, field.Invalid(policy, i.AudienceMatchPolicy, "audienceMatchPolicy must be MatchAny for multiple audiences"))
	case len(i.Audiences) == 1 && i.AudienceMatchPolicy != "" && i.AudienceMatchPolicy != matchAny:
		errs = append(errs, field.Invalid(policy, i.AudienceMatchPolicy, "audienceMatchPolicy must be empty or MatchAny for single audience"))
	}
	if i.CertificateAuthority != "" {
		if _, err := pki.ParseCertificates([]byte(i.CertificateAuthority)); err != nil {
			errs = append(errs, field.Invalid(at.Child("certificateAuthority"), "<omitted>", err.Error()))
		}
	}
	if i.EgressSelectorType != "" {
		errs = append(errs, field.Forbidden(at.Child("egressSelectorType"), "this server has no egress selectors"))
	}
	return errs
}

func validateURL(text string, at *field.Path) field.ErrorList {
	u, err := url.Parse(text)
	if err != nil {
		return field.ErrorList{field.Invalid(at, text, err.Error())}
	}
	var errs field.ErrorList
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(at, text, "URL scheme must be https"))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(at, u.Redacted(), "URL must not contain a username or password"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(at, text, "URL must not contain a query"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(at, text, "URL must not contain a fragment"))
	}
	return errs
}

func (m *mapping) validate(at *field.Path, required bool) field.ErrorList {
	switch {
	case m.Expression != "":
		return field.ErrorList{field.Forbidden(at.Child("expression"), noExpression)}
	case m.Claim == "" && m.Prefix != nil:
		return field.ErrorList{field.Invalid(at, *m.Prefix, "claim must be set when prefix is")}
	case m.Claim == "" && required:
		return field.ErrorList{field.Required(at, "claim or expression is required")}
	case m.Claim != "" && m.Prefix == nil:
		return field.ErrorList{field.Required(at.Child("prefix"), "prefix is required when claim is set. It can be set to an empty string to disable prefixing")}
	}
	return nil
}

// Flags are the --oidc- flags, which name one issuer.
type Flags struct {
	IssuerURL, ClientID           string
	CAFile                        string
	UsernameClaim, UsernamePrefix string // the claim's default: sub
	GroupsClaim, GroupsPrefix     string
	Required                      []string // key=value
	Methods                       []string // of signing; none: RS256
}

func (f Flags) empty() bool {
	return f.IssuerURL == "" && f.ClientID == "" && f.CAFile == "" && f.UsernameClaim == "" && f.UsernamePrefix == "" &&
		f.GroupsClaim == "" && f.GroupsPrefix == "" && len(f.Required) == 0 && len(f.Methods) == 0
}

// issuer is the flags in the form of the file.
func (f Flags) issuer(disallowed []string) (*trusted, error) {
	if f.IssuerURL == "" || f.ClientID == "" {
		return nil, errors.New("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")
	}
	t := &trusted{Methods: f.Methods}
	t.Issuer.URL, t.Issuer.Audiences = f.IssuerURL, []string{f.ClientID}
	if f.CAFile != "" {
		text, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %w", err)
		}
		if _, err := pki.ParseCertificates(text); err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %s: %w", f.CAFile, err)
		}
		t.Issuer.CertificateAuthority = string(text)
	}
	if len(t.Methods) == 0 {
		t.Methods = []string{"RS256"}
	}
	for _, m := range t.Methods {
		if !slices.Contains(methods, m) {
			return nil, fmt.Errorf("--oidc-signing-algs: oidc: unsupported signing alg: %q", m)
		}
	}
	claim, prefix := f.UsernameClaim, f.UsernamePrefix
	if claim == "" {
		claim = "sub"
	}
	switch {
	case prefix == "-":
		prefix = ""
	case prefix == "" && claim != "email":
		prefix = f.IssuerURL + "#"
	}
	t.ClaimMappings.Username = mapping{Claim: claim, Prefix: &prefix}
	if f.GroupsClaim != "" {
		t.ClaimMappings.Groups = mapping{Claim: f.GroupsClaim, Prefix: &f.GroupsPrefix}
	}
	for _, r := range f.Required {
		key, value, ok := strings.Cut(r, "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return nil, fmt.Errorf("--oidc-required-claim %q: want key=value", r)
		}
		t.ClaimValidationRules = append(t.ClaimValidationRules, claimRule{Claim: key, RequiredValue: value})
	}
	if err := t.validate(field.NewPath("oidc"), disallowed).ToAggregate(); err != nil {
		return nil, fmt.Errorf("--oidc flags: %w", err)
	}
	return t, nil
}
