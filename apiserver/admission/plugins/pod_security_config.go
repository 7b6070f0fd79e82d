package plugins

import (
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"pilothouse.dev/apiserver/configfile"
)

// exemptions are those whose pods are not looked at.
type exemptions struct {
	users, namespaces, runtimeClasses sets.Set[string]
}

// privilegedByDefault is what namespaces without labels have when there is no configuration.
var privilegedByDefault = api.Policy{
	Enforce: api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
	Audit:   api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
	Warn:    api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
}

// podSecurityConfig is a PodSecurityConfiguration
// (https://kubernetes.io/docs/tasks/configure-pod-container/enforce-standards-admission-controller/).
type podSecurityConfig struct {
	metav1.TypeMeta `json:",inline"`
	Defaults        map[string]string `json:"defaults"`
	Exemptions      struct {
		Usernames      []string `json:"usernames"`
		Namespaces     []string `json:"namespaces"`
		RuntimeClasses []string `json:"runtimeClasses"`
	} `json:"exemptions"`
}

const podSecurityGroup = "pod-security.admission.config.k8s.io/"

func (p *podSecurity) configure(d configfile.Document) error {
	p.defaults = privilegedByDefault
	levels, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	p.levels = levels
	if d.Empty() {
		return nil
	}
	var c podSecurityConfig
	if err := d.Versioned(&c, "PodSecurityConfiguration", podSecurityGroup+"v1", podSecurityGroup+"v1beta1", podSecurityGroup+"v1alpha1"); err != nil {
		return err
	}
	errs := podSecurityDefaults(c.Defaults, &p.defaults)
	at := field.NewPath("exemptions")
	p.exempt = exemptions{
		users: exempted(c.Exemptions.Usernames, at.Child("usernames"), &errs, func(name string) []string {
			if name == "" {
				return []string{"username must not be empty"}
			}
			return nil
		}),
		namespaces: exempted(c.Exemptions.Namespaces, at.Child("namespaces"), &errs, func(name string) []string {
			return apivalidation.ValidateNamespaceName(name, false)
		}),
		runtimeClasses: exempted(c.Exemptions.RuntimeClasses, at.Child("runtimeClasses"), &errs, func(name string) []string {
			return apivalidation.NameIsDNSSubdomain(name, false)
		}),
	}
	return d.Invalid(errs)
}

// podSecurityDefaults reads levels and versions by mode into a policy.
func podSecurityDefaults(given map[string]string, into *api.Policy) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("defaults")
	known := sets.New[string]()
	for _, mode := range []struct {
		name string
		lv   *api.LevelVersion
	}{{"enforce", &into.Enforce}, {"audit", &into.Audit}, {"warn", &into.Warn}} {
		version := mode.name + "-version"
		known.Insert(mode.name, version)
		var err error
		if text := given[mode.name]; text != "" {
			if mode.lv.Level, err = api.ParseLevel(text); err != nil {
				errs = append(errs, field.Invalid(at.Child(mode.name), text, err.Error()))
			}
		}
		if text := given[version]; text != "" {
			if mode.lv.Version, err = api.ParseVersion(text); err != nil {
				errs = append(errs, field.Invalid(at.Child(version), text, err.Error()))
			}
		}
	}
	for _, name := range sets.List(sets.KeySet(given).Difference(known)) {
		errs = append(errs, field.NotSupported(at, name, sets.List(known)))
	}
	return errs
}

func exempted(names []string, at *field.Path, errs *field.ErrorList, check func(string) []string) sets.Set[string] {
	out := sets.New[string]()
	for i, name := range names {
		if wrong := check(name); len(wrong) > 0 {
			*errs = append(*errs, field.Invalid(at.Index(i), name, strings.Join(wrong, ", ")))
		} else if out.Has(name) {
			*errs = append(*errs, field.Duplicate(at.Index(i), name))
		}
		out.Insert(name)
	}
	return out
}
