package source

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// priorities of the classes that are there without the API (https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods/).
var priorities = map[string]int32{"system-cluster-critical": pod.SystemCritical, "system-node-critical": pod.SystemCritical + 1000}

// set gives a field that was left out its value.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// fill gives an optional field that was left out its value.
func fill[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// defaults fills in what the API server would, as https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ says: a static pod has
// not passed it.
func defaults(p *corev1.Pod) {
	s := &p.Spec
	set(&s.RestartPolicy, corev1.RestartPolicyAlways)
	set(&s.DNSPolicy, corev1.DNSClusterFirst)
	set(&s.SchedulerName, corev1.DefaultSchedulerName)
	fill(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	fill(&s.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	fill(&s.SecurityContext, corev1.PodSecurityContext{})
	if prio, ok := priorities[s.PriorityClassName]; ok {
		s.Priority = &prio
	}
	fill(&s.Priority, 0)
	fill(&s.PreemptionPolicy, corev1.PreemptLowerPriority)
	for i := range s.Volumes {
		volumeDefaults(&s.Volumes[i].VolumeSource)
	}
	for i := range s.InitContainers {
		containerDefaults(&s.InitContainers[i], s.HostNetwork)
	}
	for i := range s.Containers {
		containerDefaults(&s.Containers[i], s.HostNetwork)
	}
}

func volumeDefaults(v *corev1.VolumeSource) {
	if *v == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if v.HostPath != nil {
		fill(&v.HostPath.Type, corev1.HostPathUnset)
	}
	if v.DownwardAPI != nil {
		fill(&v.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		for i := range v.DownwardAPI.Items {
			if ref := v.DownwardAPI.Items[i].FieldRef; ref != nil {
				set(&ref.APIVersion, "v1")
			}
		}
	}
	if v.Projected != nil {
		fill(&v.Projected.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
	}
	if v.Image != nil {
		set(&v.Image.PullPolicy, policyOf(v.Image.Reference))
	}
}

func policyOf(image string) corev1.PullPolicy {
	name := image[strings.LastIndex(image, "/")+1:]
	if _, tag, ok := strings.Cut(name, ":"); strings.Contains(name, "@") || ok && tag != "latest" {
		return corev1.PullIfNotPresent
	}
	return corev1.PullAlways
}

func containerDefaults(c *corev1.Container, hostNetwork bool) {
	set(&c.ImagePullPolicy, policyOf(c.Image))
	set(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	set(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		set(&c.Ports[i].Protocol, corev1.ProtocolTCP)
		if hostNetwork {
			set(&c.Ports[i].HostPort, c.Ports[i].ContainerPort)
		}
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil {
			set(&from.FieldRef.APIVersion, "v1")
		}
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe == nil {
			continue
		}
		set(&probe.TimeoutSeconds, 1)
		set(&probe.PeriodSeconds, 10)
		set(&probe.SuccessThreshold, 1)
		set(&probe.FailureThreshold, 3)
		if probe.HTTPGet != nil {
			httpDefaults(probe.HTTPGet)
		}
	}
	if c.Lifecycle != nil {
		for _, hook := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if hook != nil && hook.HTTPGet != nil {
				httpDefaults(hook.HTTPGet)
			}
		}
	}
	if len(c.Resources.Limits) > 0 { // who names a limit asks for as much
		requests := maps.Clone(c.Resources.Limits)
		maps.Copy(requests, c.Resources.Requests)
		c.Resources.Requests = requests
	}
}

func httpDefaults(g *corev1.HTTPGetAction) {
	set(&g.Path, "/")
	set(&g.Scheme, corev1.URISchemeHTTP)
}
