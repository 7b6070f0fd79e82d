package plugins

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pilothouse.dev/apiserver/admission"
)

// write makes a file for a test and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func namesOf(all []admission.Plugin) []string {
	var out []string
	for _, p := range all {
		out = append(out, p.Name())
	}
	return out
}

// failed checks an error's words; none wanted means that there is none.
func failed(t *testing.T, err error, words ...string) {
	t.Helper()
	if len(words) == 0 {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if err == nil {
		t.Fatalf("no error, want %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q, want %q in it", err, w)
		}
	}
}

func TestChoice(t *testing.T) {
	for _, c := range []struct {
		name        string
		choice      Choice
		has, hasNot []string
		words       []string
	}{
		{"defaults", Choice{}, []string{"NamespaceLifecycle", "PodSecurity", "NodeRestriction", "Priority"}, []string{"AlwaysDeny", "AlwaysPullImages", "EventRateLimit"}, nil},
		{"one more", Choice{Enable: []string{"AlwaysPullImages"}}, []string{"AlwaysPullImages", "PodSecurity"}, nil, nil},
		{"one that is on", Choice{Enable: []string{"PodSecurity"}}, []string{"PodSecurity"}, nil, nil},
		{"one less", Choice{Disable: []string{"PodSecurity"}}, []string{"Priority"}, []string{"PodSecurity"}, nil},
		{"one that is off", Choice{Disable: []string{"AlwaysDeny"}}, nil, []string{"AlwaysDeny"}, nil},
		{"unknown", Choice{Enable: []string{"SecurityContextDeny"}}, nil, nil,
			[]string{"--enable-admission-plugins", `"SecurityContextDeny" is unknown`, "AlwaysAdmit, AlwaysDeny", "PodSecurity"}},
		{"unknown to disable", Choice{Disable: []string{"podsecurity"}}, nil, nil, []string{"--disable-admission-plugins", `"podsecurity" is unknown`}},
		{"both", Choice{Enable: []string{"Priority"}, Disable: []string{"Priority"}}, nil, nil, []string{`both name "Priority"`}},
		{"part of the API", Choice{Disable: []string{(&serviceAddresses{}).Name()}}, nil, nil, []string{"cannot be disabled"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := Table(Parts{}, c.choice)
			failed(t, err, c.words...)
			names := namesOf(all)
			for _, n := range c.has {
				if !slices.Contains(names, n) {
					t.Errorf("%s does not run", n)
				}
			}
			for _, n := range c.hasNot {
				if slices.Contains(names, n) {
					t.Errorf("%s runs", n)
				}
			}
		})
	}
}

// TestOrder holds the order against that of the documentation's sections and upstream's chain, of those that both have.
func TestOrder(t *testing.T) {
	want := []string{
		"AlwaysAdmit", "NamespaceAutoProvision", "NamespaceLifecycle", "NamespaceExists", "LimitPodHardAntiAffinityTopology", "LimitRanger",
		"ServiceAccount", "NodeRestriction", "TaintNodesByCondition", "AlwaysPullImages", "PodSecurity", "PodNodeSelector", "Priority",
		"DefaultTolerationSeconds", "PodTolerationRestriction", "EventRateLimit", "ExtendedResourceToleration", "DefaultStorageClass",
		"StorageObjectInUseProtection", "OwnerReferencesPermissionEnforcement", "PersistentVolumeClaimResize", "RuntimeClass",
		"CertificateApproval", "CertificateSigning", "ClusterTrustBundleAttest", "CertificateSubjectRestriction", "DefaultIngressClass",
		"DenyServiceExternalIPs", "ResourceQuota", "AlwaysDeny",
	}
	at := -1
	for _, l := range table(Parts{}) {
		i := slices.Index(want, l.Name())
		switch {
		case i < 0 && l.when != always:
			t.Errorf("%s is not a name that users know", l.Name())
		case i >= 0 && i < at:
			t.Errorf("%s comes after %s", l.Name(), want[at])
		case i >= 0:
			at = i
		}
	}
}

func TestConfigFile(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"
	for _, c := range []struct {
		name, file string
		words      []string
	}{
		{"nothing in it", head + "plugins: []\n", nil},
		{"no configuration", head + "plugins:\n- name: PodSecurity\n", nil},
		{"beside it", head + "plugins:\n- name: PodSecurity\n  path: podsecurity.yaml\n", nil},
		{"inline", head + "plugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n", nil},
		{"quotas", head + "plugins:\n- name: ResourceQuota\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    kind: ResourceQuotaConfiguration\n" +
			"    limitedResources:\n    - resource: pods\n      matchScopes: [{scopeName: PriorityClass, operator: In, values: [high]}]\n", nil},
		{"quotas of nothing", head + "plugins:\n- name: ResourceQuota\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    kind: ResourceQuotaConfiguration\n" +
			"    limitedResources:\n    - apiGroup: apps\n", []string{"config.yaml: line 9: limitedResources[0].resource: Required value"}},
		{"empty", "", []string{"config.yaml", "empty"}},
		{"no YAML", head + "plugins: [\n", []string{"config.yaml: yaml: line"}},
		{"a key twice", head + "plugins: []\nplugins: []\n", []string{"config.yaml", "line 4", `"plugins" already set`}},
		{"another kind", "apiVersion: v1\nkind: Pod\n", []string{"config.yaml: line 2", `want "AdmissionConfiguration"`}},
		{"an unknown field", head + "plugins:\n- name: PodSecurity\n  confguration: {}\n", []string{"config.yaml: line 5", `unknown field "plugins[0].confguration"`}},
		{"a list that is none", head + "plugins: 7\n", []string{"config.yaml: line 3", "cannot unmarshal number"}},
		{"an unknown plugin", head + "plugins:\n- name: PodSecurityPolicy\n", []string{`"PodSecurityPolicy" is unknown`, "config.yaml"}},
		{"no name", head + "plugins:\n- path: x\n", []string{"config.yaml: line 4", "plugins[0].name: Required value"}},
		{"a plugin twice", head + "plugins:\n- name: PodSecurity\n- name: PodSecurity\n", []string{"config.yaml: line 5", `Duplicate value: "PodSecurity"`}},
		{"a file that is not", head + "plugins:\n- name: PodSecurity\n  path: no.yaml\n", []string{"config.yaml: line 5", "no.yaml", "no such file"}},
		{"one without configuration", head + "plugins:\n- name: Priority\n  configuration: {a: 1}\n", []string{`"Priority" takes no configuration`}},
		{"a wrong field inline", head + "plugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    default: {}\n",
			[]string{"PodSecurity", "config.yaml: line 8", `unknown field "default"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "podsecurity.yaml", "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n")
			_, err := Table(Parts{}, Choice{File: write(t, dir, "config.yaml", c.file)})
			failed(t, err, c.words...)
		})
	}
	_, err := Table(Parts{}, Choice{File: "/no/such/file"})
	failed(t, err, "/no/such/file", "no such file")
}

func TestLimitedResourcesReachTheQuota(t *testing.T) {
	file := write(t, t.TempDir(), "config.yaml", `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ResourceQuota
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ResourceQuotaConfiguration
    limitedResources:
    - resource: pods
      matchScopes: [{scopeName: PriorityClass, operator: In, values: [high]}]
    - apiGroup: ""
      resource: persistentvolumeclaims
      matchContains: [.storageclass.storage.k8s.io/requests.storage]
`)
	all, err := Table(Parts{}, Choice{File: file})
	failed(t, err)
	for _, p := range all {
		if q, ok := p.(*resourceQuota); ok {
			if len(q.limited) != 2 || q.limited[0].Resource != "pods" || q.limited[0].MatchScopes[0].Values[0] != "high" ||
				q.limited[1].MatchContains[0] != ".storageclass.storage.k8s.io/requests.storage" {
				t.Errorf("limited %+v", q.limited)
			}
			return
		}
	}
	t.Error("no quota runs")
}
