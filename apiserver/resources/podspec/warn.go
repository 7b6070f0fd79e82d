package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// WarnPod says what is legal but unwise in a pod that is new or has changed; old is nil at create.
func WarnPod(p, old *corev1.Pod) []string {
	if old != nil && apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
		return nil
	}
	out := warnSpec(&p.ObjectMeta, &p.Spec, field.NewPath("spec"))
	if bad := validation.IsDNS1123Label(p.Name); old == nil && p.Name != "" && len(bad) > 0 {
		out = append([]string{fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", bad)}, out...)
	}
	return out
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
	return warnSpec(&t.ObjectMeta, &t.Spec, path.Child("spec"))
}

// oldLabels are labels of nodes that have newer names.
var oldLabels = map[string]string{
	"beta.kubernetes.io/arch":                  "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
	"beta.kubernetes.io/os":                    "deprecated since v1.14; use \"kubernetes.io/os\" instead",
	"beta.kubernetes.io/instance-type":         "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
	"failure-domain.beta.kubernetes.io/region": "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
	"failure-domain.beta.kubernetes.io/zone":   "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
}

// oldVolumes are kinds of volumes that are no more, or soon.
var oldVolumes = map[string]string{
	"gitRepo":              "deprecated in v1.11, and disabled by default in v1.33+",
	"photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
	"scaleIO":              "deprecated in v1.16, non-functional in v1.22+",
	"flocker":              "deprecated in v1.22, non-functional in v1.25+",
	"quobyte":              "deprecated in v1.22, non-functional in v1.25+",
	"storageos":            "deprecated in v1.22, non-functional in v1.25+",
	"glusterfs":            "deprecated in v1.25, non-functional in v1.26+",
	"cephfs":               "deprecated in v1.28, non-functional in v1.31+",
	"rbd":                  "deprecated in v1.28, non-functional in v1.31+",
}

// oldAnnotations are annotations of pods that became fields.
var oldAnnotations = map[string]string{
	"scheduler.alpha.kubernetes.io/critical-pod":  "non-functional in v1.16+; use the \"priorityClassName\" field instead",
	"security.alpha.kubernetes.io/sysctls":        "non-functional in v1.11+; use the \"sysctls\" field instead",
	"security.alpha.kubernetes.io/unsafe-sysctls": "non-functional in v1.11+; use the \"sysctls\" field instead",
}

// warnings are what is unwise in one spec.
type warnings []string

func (w *warnings) add(at *field.Path, format string, args ...any) {
	*w = append(*w, at.String()+": "+fmt.Sprintf(format, args...))
}

func warnSpec(m *metav1.ObjectMeta, s *corev1.PodSpec, path *field.Path) []string {
	var w warnings
	w.annotations(m, path)
	w.placement(s, path)
	for i := range s.Volumes {
		w.volume(&s.Volumes[i], path.Child("volumes").Index(i))
	}
	for i, r := range s.ImagePullSecrets {
		if r.Name == "" {
			w.add(path.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", r.Name)
		}
	}
	seen := map[string]bool{}
	for i, a := range s.HostAliases {
		at := path.Child("hostAliases").Index(i).Child("ip")
		if seen[a.IP] {
			w.add(at, "duplicate ip %q", a.IP)
		}
		seen[a.IP] = true
		w = append(w, validation.GetWarningsForIP(at, a.IP)...)
	}
	if s.DNSConfig != nil {
		for i, ip := range s.DNSConfig.Nameservers {
			w = append(w, validation.GetWarningsForIP(path.Child("dnsConfig", "nameservers").Index(i), ip)...)
		}
	}
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		w.add(path.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	eachContainerAt(s, path, w.container)
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"limits", podResources(s).Limits}, {"requests", podResources(s).Requests}} {
		w.fractions(list.of, path.Child("resources", list.name))
	}
	w.fractions(s.Overhead, path.Child("overhead"))
	return w
}

func podResources(s *corev1.PodSpec) *corev1.ResourceRequirements {
	if s.Resources == nil {
		return &corev1.ResourceRequirements{}
	}
	return s.Resources
}

// annotations stand beside the spec: at the pod's metadata, or the template's.
func (w *warnings) annotations(m *metav1.ObjectMeta, spec *field.Path) {
	at := field.NewPath("metadata", "annotations")
	if text := spec.String(); strings.HasSuffix(text, ".spec") {
		at = field.NewPath(strings.TrimSuffix(text, ".spec")).Child("metadata", "annotations")
	}
	for _, key := range sets.List(sets.KeySet(m.Annotations)) {
		why := oldAnnotations[key]
		switch {
		case strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix):
			why = "deprecated since v1.30; use the \"appArmorProfile\" field instead"
		case key == corev1.SeccompPodAnnotationKey, strings.HasPrefix(key, corev1.SeccompContainerAnnotationKeyPrefix):
			why = "non-functional in v1.27+; use the \"seccompProfile\" field instead"
		}
		if why != "" {
			w.add(at.Key(key), "%s", why)
		}
	}
}

func (w *warnings) placement(s *corev1.PodSpec, path *field.Path) {
	for _, key := range sets.List(sets.KeySet(s.NodeSelector)) {
		if why, ok := oldLabels[key]; ok {
			w.add(path.Child("nodeSelector").Key(key), "%s", why)
		}
	}
	const need, wish = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	if a := s.Affinity; a != nil {
		at := path.Child("affinity")
		if n := a.NodeAffinity; n != nil {
			if n.RequiredDuringSchedulingIgnoredDuringExecution != nil {
				*w = append(*w, WarnNodeSelector(n.RequiredDuringSchedulingIgnoredDuringExecution, at.Child("nodeAffinity", need))...)
			}
			for i, t := range n.PreferredDuringSchedulingIgnoredDuringExecution {
				for j, r := range t.Preference.MatchExpressions {
					*w = append(*w, WarnLabel(r.Key, at.Child("nodeAffinity", wish).Index(i).Child("preference", "matchExpressions").Index(j).Child("key"))...)
				}
			}
		}
		if p := a.PodAffinity; p != nil {
			w.terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))
		}
		if p := a.PodAntiAffinity; p != nil {
			w.terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))
		}
	}
	for i, c := range s.TopologySpreadConstraints {
		at := path.Child("topologySpreadConstraints").Index(i)
		*w = append(*w, WarnLabel(c.TopologyKey, at.Child("topologyKey"))...)
		if c.LabelSelector == nil {
			w.add(at.Child("labelSelector"), nobody)
		}
	}
}

const nobody = "a null labelSelector results in matching no pod"

func (w *warnings) terms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at *field.Path) {
	for i, t := range required {
		if t.LabelSelector == nil {
			w.add(at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), nobody)
		}
	}
	for i, t := range preferred {
		if t.PodAffinityTerm.LabelSelector == nil {
			w.add(at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), nobody)
		}
	}
}

func (w *warnings) volume(v *corev1.Volume, at *field.Path) {
	for _, kind := range setFields(&v.VolumeSource) {
		if why, ok := oldVolumes[kind]; ok {
			w.add(at.Child(kind), "%s", why)
		}
	}
	if e := v.EmptyDir; e != nil && e.SizeLimit != nil {
		w.fraction(*e.SizeLimit, at.Child("emptyDir", "sizeLimit"))
	}
	if e := v.Ephemeral; e != nil && e.VolumeClaimTemplate != nil {
		w.fractions(e.VolumeClaimTemplate.Spec.Resources.Requests, at.Child("ephemeral", "volumeClaimTemplate", "spec", "resources", "requests"))
	}
}

func (w *warnings) container(c *corev1.Container, at *field.Path) {
	w.fractions(c.Resources.Limits, at.Child("resources", "limits"))
	w.fractions(c.Resources.Requests, at.Child("resources", "requests"))
	names := map[string]bool{}
	for i, v := range c.Env {
		if names[v.Name] {
			w.add(at.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
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
			w.add(at.Child("ports").Index(i), "duplicate port definition with %s", at.Child("ports").Index(first))
			continue
		}
		ports[key] = i
	}
}

// fractions are amounts of bytes that are not whole.
func (w *warnings) fractions(list corev1.ResourceList, at *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceEphemeralStorage, corev1.ResourceMemory, corev1.ResourceStorage} {
		if q, ok := list[name]; ok {
			w.fraction(q, at.Key(string(name)))
		}
	}
}

func (w *warnings) fraction(q resource.Quantity, at *field.Path) {
	if q.MilliValue()%1000 != 0 {
		w.add(at, "fractional byte value %q is invalid, must be an integer", q.String())
	}
}
