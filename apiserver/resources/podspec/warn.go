package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// WarnPod says what is legal but unwise in a pod that is new or has changed; old is nil at create.
func WarnPod(p, old *corev1.Pod) []string {
	if old != nil && apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
		return nil
	}
	return warnSpec(&p.Spec, field.NewPath("spec"))
}

// WarnName says of the name of something that makes pods that it will not do for a host's name. Names do not change, so it
// is for creates.
func WarnName(name string) []string {
	bad := validation.IsDNS1123Label(name)
	if name == "" || len(bad) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", bad)}
}

// WarnTemplate does so of a template at path; old is nil at create.
func WarnTemplate(t, old *corev1.PodTemplateSpec, path *field.Path) []string {
	if old != nil && apiequality.Semantic.DeepEqual(t.Spec, old.Spec) {
		return nil
	}
	return warnSpec(&t.Spec, path.Child("spec"))
}

// oldLabels are labels of nodes that have newer names.
var oldLabels = map[string]string{
	"beta.kubernetes.io/arch":                  "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
	"beta.kubernetes.io/os":                    "deprecated since v1.14; use \"kubernetes.io/os\" instead",
	"beta.kubernetes.io/instance-type":         "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
	"failure-domain.beta.kubernetes.io/region": "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
	"failure-domain.beta.kubernetes.io/zone":   "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
}

func warnSpec(s *corev1.PodSpec, path *field.Path) []string {
	var out []string
	warn := func(at *field.Path, format string, args ...any) {
		out = append(out, at.String()+": "+fmt.Sprintf(format, args...))
	}
	for key := range s.NodeSelector {
		if why, ok := oldLabels[key]; ok {
			warn(path.Child("nodeSelector").Key(key), "%s", why)
		}
	}
	for i, r := range s.ImagePullSecrets {
		if r.Name == "" {
			warn(path.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", r.Name)
		}
	}
	for i, c := range s.TopologySpreadConstraints {
		if c.LabelSelector == nil {
			warn(path.Child("topologySpreadConstraints").Index(i).Child("labelSelector"), "a null labelSelector results in matching no pod")
		}
	}
	seen := map[string]bool{}
	for i, a := range s.HostAliases {
		if seen[a.IP] {
			warn(path.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		seen[a.IP] = true
	}
	eachContainerAt(s, path, func(c *corev1.Container, at *field.Path) {
		names := map[string]bool{}
		for i, v := range c.Env {
			if names[v.Name] {
				warn(at.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
			}
			names[v.Name] = true
		}
		type port struct {
			number   int32
			protocol corev1.Protocol
			host     int32
			ip       string
		}
		ports := map[port]int{}
		for i, p := range c.Ports {
			key := port{p.ContainerPort, p.Protocol, p.HostPort, p.HostIP}
			if first, ok := ports[key]; ok {
				warn(at.Child("ports").Index(i), "duplicate port definition with %s", at.Child("ports").Index(first))
				continue
			}
			ports[key] = i
		}
	})
	return out
}
