package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/pod"
)

var (
	pullPolicies      = sets.New(corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	messagePolicies   = sets.New(corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	containerRestarts = sets.New(corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyOnFailure, corev1.ContainerRestartPolicyNever)
	resizePolicies    = sets.New(corev1.NotRequired, corev1.RestartContainer)
	resizable         = sets.New(corev1.ResourceCPU, corev1.ResourceMemory)
)

// validateContainers checks the containers of both lists that run by themselves, whose names share one space.
func validateContainers(s *corev1.PodSpec, volumes map[string]*corev1.Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	claims := claimNames(s)
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	names := sets.New[string]()
	name := func(name string, at *field.Path) {
		if name != "" && names.Has(name) {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names.Insert(name)
	}
	// Containers first: an init container that takes their name is the one that is wrong.
	for i := range s.Containers {
		c, at := &s.Containers[i], path.Child("containers").Index(i)
		name(c.Name, at)
		errs = append(errs, validateContainer(c, s, volumes, claims, at)...)
		errs = append(errs, validateLifecycleAndProbes(c, s, at)...)
		errs = append(errs, validateRestart(c, at)...)
	}
	for i := range s.InitContainers {
		c, at := &s.InitContainers[i], path.Child("initContainers").Index(i)
		name(c.Name, at)
		errs = append(errs, validateContainer(c, s, volumes, claims, at)...)
		errs = append(errs, validateRestart(c, at)...)
		if pod.Sidecar(c) {
			errs = append(errs, validateLifecycleAndProbes(c, s, at)...)
		} else {
			errs = append(errs, forbidProbes(c, at)...)
		}
	}
	taken := sets.New[string]()
	for i := range s.Containers {
		errs = append(errs, validateHostPorts(&s.Containers[i], taken, s.HostNetwork, path.Child("containers").Index(i).Child("ports"))...)
	}
	for i := range s.InitContainers { // they run one after the other
		errs = append(errs, validateHostPorts(&s.InitContainers[i], sets.New[string](), false, path.Child("initContainers").Index(i).Child("ports"))...)
	}
	return errs
}

// validateContainer checks what containers of every list have in common.
func validateContainer(c *corev1.Container, s *corev1.PodSpec, volumes map[string]*corev1.Volume, claims sets.Set[string], at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, registry.Invalid(c.Name, validation.IsDNS1123Label(c.Name), at.Child("name"))...)
	}
	errs = append(errs, required(c.Image, at.Child("image"))...)
	errs = append(errs, oneOf(c.TerminationMessagePolicy, messagePolicies, at.Child("terminationMessagePolicy"))...)
	errs = append(errs, oneOf(c.ImagePullPolicy, pullPolicies, at.Child("imagePullPolicy"))...)
	errs = append(errs, validatePorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, volumes, at.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, at.Child("envFrom"))...)
	errs = append(errs, validateMounts(c, volumes, at)...)
	errs = append(errs, validateDevices(c, volumes, at)...)
	errs = append(errs, validateRequirements(&c.Resources, claims, at.Child("resources"))...)
	errs = append(errs, validateResize(c.ResizePolicy, s.RestartPolicy, at.Child("resizePolicy"))...)
	return append(errs, validateSecurity(c.SecurityContext, s, at.Child("securityContext"))...)
}

func claimNames(s *corev1.PodSpec) sets.Set[string] {
	names := sets.New[string]()
	for _, c := range s.ResourceClaims {
		names.Insert(c.Name)
	}
	return names
}

func validateImageSpace(image string, path *field.Path) field.ErrorList {
	if strings.TrimSpace(image) != image {
		return field.ErrorList{field.Invalid(path, image, "must not have leading or trailing whitespace")}
	}
	return nil
}

func validateLifecycleAndProbes(c *corev1.Container, s *corev1.PodSpec, at *field.Path) field.ErrorList {
	errs := validateLifecycle(c.Lifecycle, s, at.Child("lifecycle"))
	errs = append(errs, validateOncePassed(c.LivenessProbe, at.Child("livenessProbe"))...)
	errs = append(errs, validateProbe(c.ReadinessProbe, at.Child("readinessProbe"))...)
	if p := c.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(at.Child("readinessProbe").Child("terminationGracePeriodSeconds"),
			*p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	return append(errs, validateOncePassed(c.StartupProbe, at.Child("startupProbe"))...)
}

func forbidProbes(c *corev1.Container, at *field.Path) field.ErrorList {
	const why = "may not be set for init containers without restartPolicy=Always"
	var errs field.ErrorList
	if c.Lifecycle != nil {
		errs = append(errs, field.Forbidden(at.Child("lifecycle"), why))
	}
	for name, p := range map[string]*corev1.Probe{
		"livenessProbe": c.LivenessProbe, "readinessProbe": c.ReadinessProbe, "startupProbe": c.StartupProbe,
	} {
		if p != nil {
			errs = append(errs, field.Forbidden(at.Child(name), why))
		}
	}
	return errs
}

func validateRestart(c *corev1.Container, at *field.Path) field.ErrorList {
	errs := oneOfIfSet(c.RestartPolicy, containerRestarts, at.Child("restartPolicy"))
	rules := at.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > 0 && c.RestartPolicy == nil {
		errs = append(errs, field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	}
	if n := len(c.RestartPolicyRules); n > 20 {
		errs = append(errs, field.TooMany(rules, n, 20))
	}
	actions := sets.New(corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
	operators := sets.New(corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
	for i, r := range c.RestartPolicyRules {
		errs = append(errs, oneOf(r.Action, actions, rules.Index(i).Child("action"))...)
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(rules.Index(i).Child("exitCodes"), "must be specified"))
			continue
		}
		codes := rules.Index(i).Child("exitCodes")
		errs = append(errs, oneOf(r.ExitCodes.Operator, operators, codes.Child("operator"))...)
		if n := len(r.ExitCodes.Values); n > 255 {
			errs = append(errs, field.TooMany(codes.Child("values"), n, 255))
		}
	}
	return errs
}

func validateResize(policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.ResourceName]()
	for i, p := range policies {
		if seen.Has(p.ResourceName) {
			errs = append(errs, field.Duplicate(path.Index(i), p.ResourceName))
		}
		seen.Insert(p.ResourceName)
		errs = append(errs, oneOf(p.ResourceName, resizable, path)...)
		errs = append(errs, oneOf(p.RestartPolicy, resizePolicies, path)...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(path, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

var portProtocols = sets.New(corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)

func validatePorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			if bad := validation.IsValidPortName(p.Name); len(bad) > 0 {
				errs = append(errs, registry.Invalid(p.Name, bad, at.Child("name"))...)
			} else if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, registry.Invalid(p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)), at.Child("containerPort"))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, registry.Invalid(p.HostPort, validation.IsValidPortNum(int(p.HostPort)), at.Child("hostPort"))...)
		}
		errs = append(errs, oneOf(p.Protocol, portProtocols, at.Child("protocol"))...)
		if p.HostIP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("hostIP"), p.HostIP, true, nil)...)
		}
	}
	return errs
}

// validateHostPorts lets each port of the host be taken once; on the host's network a port has one number.
func validateHostPorts(c *corev1.Container, taken sets.Set[string], hostNetwork bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, p := range c.Ports {
		at := path.Index(i).Child("hostPort")
		if hostNetwork && p.HostPort != 0 && p.HostPort != p.ContainerPort {
			errs = append(errs, field.Invalid(at, p.HostPort, "must match `containerPort` when `hostNetwork` is true"))
		}
		if p.HostPort == 0 {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
		if taken.Has(key) {
			errs = append(errs, field.Duplicate(at, key))
		}
		taken.Insert(key)
	}
	return errs
}
