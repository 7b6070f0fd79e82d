package credentials

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	configv1 "k8s.io/kubelet/config/v1"
	providerv1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"sigs.k8s.io/yaml"
)

// readProviders reads a CredentialProviderConfig, or all in a folder in the order of their names.
func readProviders(path string) ([]configv1.CredentialProvider, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if st.IsDir() {
		entries, err := os.ReadDir(path) // sorted by name
		if err != nil {
			return nil, err
		}
		files = nil
		for _, e := range entries {
			if slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(e.Name())) {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("no configuration files found in %s", path)
		}
	}
	var all []configv1.CredentialProvider
	seen := map[string]bool{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var c configv1.CredentialProviderConfig
		if err := yaml.UnmarshalStrict(raw, &c); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		if c.APIVersion != configv1.SchemeGroupVersion.String() || c.Kind != "CredentialProviderConfig" {
			return nil, fmt.Errorf("%s: want kind CredentialProviderConfig of %s, it is %s of %s", f, configv1.SchemeGroupVersion, c.Kind, c.APIVersion)
		}
		if len(c.Providers) == 0 {
			return nil, fmt.Errorf("%s: providers: Required value: at least 1 item in plugins is required", f)
		}
		for i, p := range c.Providers {
			if err := checkProvider(p); err != nil {
				return nil, fmt.Errorf("%s: providers[%d]: %w", f, i, err)
			}
			if seen[p.Name] {
				return nil, fmt.Errorf("%s: providers[%d].name: Duplicate value: %q", f, i, p.Name)
			}
			seen[p.Name] = true
			all = append(all, p)
		}
	}
	return all, nil
}

// checkProvider says what is wrong with a provider, by the rules in the API's documentation
// (https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/).
func checkProvider(p configv1.CredentialProvider) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case p.Name == "":
		bad("name: Required value: name is required")
	case strings.ContainsAny(p.Name, "/ ") || p.Name == "." || p.Name == "..":
		bad("name: Invalid value: %q: provider name cannot contain spaces or '/', or be '.' or '..'", p.Name)
	}
	if p.APIVersion != providerv1.SchemeGroupVersion.String() {
		bad("apiVersion: Unsupported value: %q: supported values: %q", p.APIVersion, providerv1.SchemeGroupVersion.String())
	}
	if len(p.MatchImages) == 0 {
		bad("matchImages: Required value: at least 1 item in matchImages is required")
	}
	for i, m := range p.MatchImages {
		if _, err := parsePattern(m); err != nil {
			bad("matchImages[%d]: Invalid value: %q: %w", i, m, err)
		}
	}
	switch d := p.DefaultCacheDuration; {
	case d == nil:
		bad("defaultCacheDuration: Required value: defaultCacheDuration is required")
	case d.Duration < 0:
		bad("defaultCacheDuration: Invalid value: %q: must be greater than or equal to 0", d.Duration)
	}
	if t := p.TokenAttributes; t != nil {
		errs = append(errs, checkTokens(*t)...)
	}
	return errors.Join(errs...)
}

func checkTokens(t configv1.ServiceAccountTokenAttributes) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("tokenAttributes."+format, args...)) }
	if t.ServiceAccountTokenAudience == "" {
		bad("serviceAccountTokenAudience: Required value")
	}
	if t.RequireServiceAccount == nil {
		bad("requireServiceAccount: Required value")
	} else if !*t.RequireServiceAccount && len(t.RequiredServiceAccountAnnotationKeys) > 0 {
		bad("requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set")
	}
	switch t.CacheType {
	case configv1.ServiceAccountServiceAccountTokenCacheType, configv1.TokenServiceAccountTokenCacheType:
	case "":
		bad("cacheType: Required value")
	default:
		bad("cacheType: Unsupported value: %q", t.CacheType)
	}
	seen := map[string]bool{}
	for field, keys := range map[string][]string{"requiredServiceAccountAnnotationKeys": t.RequiredServiceAccountAnnotationKeys,
		"optionalServiceAccountAnnotationKeys": t.OptionalServiceAccountAnnotationKeys} {
		for i, key := range keys {
			if wrong := validation.IsQualifiedName(strings.ToLower(key)); len(wrong) > 0 {
				bad("%s[%d]: Invalid value: %q: %s", field, i, key, strings.Join(wrong, "; "))
			}
			if seen[key] {
				bad("%s[%d]: Duplicate value: %q", field, i, key)
			}
			seen[key] = true
		}
	}
	return errs
}
