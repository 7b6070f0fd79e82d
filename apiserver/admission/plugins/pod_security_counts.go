package plugins

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/pod-security-admission/api"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/version"
)

// podSecurityCounts are the metrics of PodSecurity, named as
// https://kubernetes.io/docs/concepts/security/pod-security-admission/#metrics says. A nil one counts nothing.
type podSecurityCounts struct {
	evaluations, exemptions, errors *prometheus.CounterVec

	newest api.Version // that there is; a later one may be any number
}

func newPodSecurityCounts(r prometheus.Registerer) *podSecurityCounts {
	if r == nil {
		return nil
	}
	what := []string{"request_operation", "resource", "subresource"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(labels, what...))
		r.MustRegister(c)
		return c
	}
	newest, err := api.ParseVersion("v" + version.Major + "." + version.Minor)
	if err != nil {
		panic(err)
	}
	return &podSecurityCounts{
		newest: newest,
		evaluations: counter("pod_security_evaluations_total", "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
			"decision", "policy_level", "policy_version", "mode"),
		exemptions: counter("pod_security_exemptions_total", "Number of exempt requests, not counting ignored or out of scope requests."),
		errors:     counter("pod_security_errors_total", "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.", "fatal"),
	}
}

func (c *podSecurityCounts) evaluated(a *admission.Attributes, decision string, lv api.LevelVersion, mode string) {
	if c == nil {
		return
	}
	version := lv.Version.String()
	if !lv.Version.Latest() && c.newest.Older(lv.Version) {
		version = "future"
	}
	c.evaluations.WithLabelValues(append([]string{decision, string(lv.Level), version, mode}, asked(a)...)...).Inc()
}

func (c *podSecurityCounts) exempted(a *admission.Attributes) {
	if c != nil {
		c.exemptions.WithLabelValues(asked(a)...).Inc()
	}
}

func (c *podSecurityCounts) failed(a *admission.Attributes, fatal bool) {
	if c != nil {
		c.errors.WithLabelValues(append([]string{strconv.FormatBool(fatal)}, asked(a)...)...).Inc()
	}
}

// asked are the labels of a request: what makes pods is one.
func asked(a *admission.Attributes) []string {
	resource := "controller"
	if a.Resource.GVK.Group == "" && (a.Resource.Plural == "pods" || a.Resource.Plural == "namespaces") {
		resource = strings.TrimSuffix(a.Resource.Plural, "s")
	}
	return []string{strings.ToLower(string(a.Operation)), resource, a.Subresource}
}
