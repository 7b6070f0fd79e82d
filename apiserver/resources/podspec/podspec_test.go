package podspec

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// small is the least a pod can be, defaulted.
func small(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "a"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "busybox"}}},
	}
	if change != nil {
		change(p)
	}
	DefaultPod(p)
	return p
}

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func list(name, q string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceName(name): resource.MustParse(q)}
}

// first applies a change to the first container.
func first(change func(*corev1.Container)) func(*corev1.Pod) {
	return func(p *corev1.Pod) { change(&p.Spec.Containers[0]) }
}

// volume adds a volume v and mounts it.
func volume(source corev1.VolumeSource) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "v", VolumeSource: source})
		c := &p.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "v", MountPath: "/v"})
	}
}

func TestValidatePod(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	probe := func() *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}}
	}
	env := func(v corev1.EnvVar) func(*corev1.Pod) {
		return first(func(c *corev1.Container) { c.Env = []corev1.EnvVar{v} })
	}
	from := func(s corev1.EnvVarSource) func(*corev1.Pod) { return env(corev1.EnvVar{Name: "A", ValueFrom: &s}) }
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"least", nil, nil},

		// containers
		{"no containers", func(p *corev1.Pod) { p.Spec.Containers = nil }, []string{"spec.containers: Required value"}},
		{"container without name and image", first(func(c *corev1.Container) { c.Name, c.Image = "", "" }),
			[]string{"spec.containers[0].image: Required value", "spec.containers[0].name: Required value"}},
		{"container with a bad name", first(func(c *corev1.Container) { c.Name = "A" }), []string{"spec.containers[0].name: Invalid value"}},
		{"image with a blank", first(func(c *corev1.Container) { c.Image = " busybox" }), []string{"spec.containers[0].image: Invalid value"}},
		{"two of one name", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "c", Image: "x"}} },
			[]string{"spec.initContainers[0].name: Duplicate value"}},
		{"bad words", first(func(c *corev1.Container) { c.ImagePullPolicy, c.TerminationMessagePolicy = "Now", "Pipe" }),
			[]string{"spec.containers[0].imagePullPolicy: Unsupported value", "spec.containers[0].terminationMessagePolicy: Unsupported value"}},
		{"bad restart policy", func(p *corev1.Pod) { p.Spec.RestartPolicy = "Maybe" }, []string{"spec.restartPolicy: Unsupported value"}},
		{"init container with a probe", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "x", ReadinessProbe: probe()}}
		}, []string{"spec.initContainers[0].readinessProbe: Forbidden"}},
		{"sidecar with a probe", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "x", ReadinessProbe: probe(), RestartPolicy: &always}}
		}, nil},

		// ports
		{"no port", first(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{}} }), []string{"spec.containers[0].ports[0].containerPort: Required value"}},
		{"bad port", first(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 70000, Protocol: "XTP", Name: "a_long_name_of_a_port", HostIP: "x"}}
		}), []string{"spec.containers[0].ports[0].containerPort: Invalid value", "spec.containers[0].ports[0].hostIP: Invalid value",
			"spec.containers[0].ports[0].name: Invalid value", "spec.containers[0].ports[0].name: Invalid value", "spec.containers[0].ports[0].protocol: Unsupported value"}},
		{"two ports of one name", first(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {Name: "http", ContainerPort: 81}}
		}), []string{"spec.containers[0].ports[1].name: Duplicate value"}},
		{"one host port twice", first(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}, {ContainerPort: 81, HostPort: 80}}
		}), []string{"spec.containers[0].ports[1].hostPort: Duplicate value"}},
		{"other host port on the host's network", func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 81}}
		}, []string{"spec.containers[0].ports[0].hostPort: Invalid value"}},

		// environment
		{"variable without name", env(corev1.EnvVar{Value: "x"}), []string{"spec.containers[0].env[0].name: Required value"}},
		{"variable with an equals sign", env(corev1.EnvVar{Name: "a=b"}), []string{"spec.containers[0].env[0].name: Invalid value"}},
		{"variable with a dot", env(corev1.EnvVar{Name: "a.b-c"}), nil},
		{"from nothing", from(corev1.EnvVarSource{}), []string{"spec.containers[0].env[0].valueFrom: Invalid value"}},
		{"value and source", env(corev1.EnvVar{Name: "A", Value: "x", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}),
			[]string{"spec.containers[0].env[0].valueFrom: Invalid value"}},
		{"from a field", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}), nil},
		{"from a label", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['a/b']"}}), nil},
		{"from all labels", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}),
			[]string{"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value"}},
		{"from a field there is not", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.x"}}),
			[]string{"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value"}},
		{"from a limit", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("1m")}}), nil},
		{"from a limit in odd parts", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("2m")}}),
			[]string{"spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value"}},
		{"from a key without a name", from(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{}}),
			[]string{"spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value", "spec.containers[0].env[0].valueFrom.secretKeyRef.name: Required value"}},
		{"all of nothing", first(func(c *corev1.Container) { c.EnvFrom = []corev1.EnvFromSource{{}} }), []string{"spec.containers[0].envFrom: Invalid value"}},

		// probes and hooks
		{"probe of nothing", first(func(c *corev1.Container) { c.LivenessProbe = &corev1.Probe{} }), []string{"spec.containers[0].livenessProbe: Required value"}},
		{"probe of two things", first(func(c *corev1.Container) {
			c.LivenessProbe = probe()
			c.LivenessProbe.Exec = &corev1.ExecAction{Command: []string{"x"}}
		}), []string{"spec.containers[0].livenessProbe.tcpSocket: Forbidden"}},
		{"liveness that must succeed twice", first(func(c *corev1.Container) { c.LivenessProbe = probe(); c.LivenessProbe.SuccessThreshold = 2 }),
			[]string{"spec.containers[0].livenessProbe.successThreshold: Invalid value"}},
		{"readiness that must succeed twice", first(func(c *corev1.Container) { c.ReadinessProbe = probe(); c.ReadinessProbe.SuccessThreshold = 2 }), nil},
		{"negative times", first(func(c *corev1.Container) { c.StartupProbe = probe(); c.StartupProbe.InitialDelaySeconds = -1 }),
			[]string{"spec.containers[0].startupProbe.initialDelaySeconds: Invalid value"}},
		{"bad HTTP probe", first(func(c *corev1.Container) {
			c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Port: intstr.FromInt32(0), Scheme: "ftp", HTTPHeaders: []corev1.HTTPHeader{{Name: "a b"}},
			}}}
		}), []string{"spec.containers[0].readinessProbe.httpGet.httpHeaders: Invalid value", "spec.containers[0].readinessProbe.httpGet.port: Invalid value",
			"spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value"}},
		{"sleeps longer than it may", first(func(c *corev1.Container) {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 31}}}
		}), []string{"spec.containers[0].lifecycle.preStop.sleep: Invalid value"}},

		// resources
		{"more than the limit", first(func(c *corev1.Container) {
			c.Resources = corev1.ResourceRequirements{Requests: list("cpu", "2"), Limits: list("cpu", "1")}
		}), []string{"spec.containers[0].resources.requests: Invalid value"}},
		{"negative", first(func(c *corev1.Container) { c.Resources.Limits = list("memory", "-1") }),
			[]string{"spec.containers[0].resources.limits[memory]: Invalid value", "spec.containers[0].resources.requests[memory]: Invalid value"}},
		{"unknown", first(func(c *corev1.Container) { c.Resources.Requests = list("pods", "1") }), []string{"spec.containers[0].resources.requests[pods]: Invalid value"}},
		{"a device", first(func(c *corev1.Container) { c.Resources.Limits = list("example.org/gpu", "1") }), nil},
		{"half a device", first(func(c *corev1.Container) { c.Resources.Limits = list("example.org/gpu", "500m") }),
			[]string{"spec.containers[0].resources.limits[example.org/gpu]: Invalid value", "spec.containers[0].resources.requests[example.org/gpu]: Invalid value"}},
		{"a device without limit", first(func(c *corev1.Container) { c.Resources.Requests = list("example.org/gpu", "1") }), []string{"spec.containers[0].resources.limits: Required value"}},
		{"huge pages alone", first(func(c *corev1.Container) { c.Resources.Limits = list("hugepages-2Mi", "2Mi") }), []string{"spec.containers[0].resources: Forbidden"}},

		// volumes
		{"volume of nothing is an empty directory", volume(corev1.VolumeSource{}), nil},
		{"volume of two things", volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, HostPath: &corev1.HostPathVolumeSource{Path: "/x"}}),
			[]string{"spec.volumes[0].emptyDir: Forbidden"}},
		{"mount of no volume", first(func(c *corev1.Container) { c.VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/x"}} }),
			[]string{"spec.containers[0].volumeMounts[0].name: Not found"}},
		{"two mounts at one place", func(p *corev1.Pod) {
			volume(corev1.VolumeSource{})(p)
			c := &p.Spec.Containers[0]
			c.VolumeMounts = append(c.VolumeMounts, c.VolumeMounts[0])
		}, []string{"spec.containers[0].volumeMounts[1].mountPath: Invalid value"}},
		{"sub path upwards", func(p *corev1.Pod) {
			volume(corev1.VolumeSource{})(p)
			p.Spec.Containers[0].VolumeMounts[0].SubPath = "../x"
		}, []string{"spec.containers[0].volumeMounts[0].subPath: Invalid value"}},
		{"shared mount without privilege", func(p *corev1.Pod) {
			volume(corev1.VolumeSource{})(p)
			p.Spec.Containers[0].VolumeMounts[0].MountPropagation = ptr.To(corev1.MountPropagationBidirectional)
		}, []string{"spec.containers[0].volumeMounts[0].mountPropagation: Forbidden"}},
		{"host path upwards", volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a/../b"}}), []string{"spec.volumes[0].hostPath.path: Invalid value"}},
		{"secret without name, absolute path, odd mode", volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			Items: []corev1.KeyToPath{{Key: "k", Path: "/etc/x"}}, DefaultMode: ptr.To[int32](0o1000),
		}}), []string{"spec.volumes[0].secret.defaultMode: Invalid value", "spec.volumes[0].secret.items[0].path: Invalid value", "spec.volumes[0].secret.secretName: Required value"}},
		{"config map without name", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}), []string{"spec.volumes[0].configMap.name: Required value"}},
		{"projected twice to one path", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "token", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: "k", Path: "token"}}}},
		}}}), []string{"spec.volumes[0].projected: Invalid value"}},
		{"token for a moment", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](5)}},
		}}}), []string{"spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value", "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden"}},
		{"downward file of nothing", volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "x"}}}}),
			[]string{"spec.volumes[0].downwardAPI: Required value"}},
		{"downward labels", volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "x", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		}}}), nil},
		{"claim without name", volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}),
			[]string{"spec.volumes[0].persistentVolumeClaim.claimName: Required value"}},
		{"NFS without anything", volume(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}), []string{"spec.volumes[0].nfs.path: Required value", "spec.volumes[0].nfs.server: Required value"}},

		// placement
		{"bad node selector", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b c"} }, []string{"spec.nodeSelector: Invalid value"}},
		{"toleration of everything", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: "Exists"}} }, nil},
		{"toleration without key", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Value: "x"}} }, []string{"spec.tolerations[0].operator: Invalid value"}},
		{"toleration with seconds of no eviction", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: "Exists", Effect: "NoSchedule", TolerationSeconds: ptr.To[int64](1)}}
		}, []string{"spec.tolerations[0].effect: Invalid value"}},
		{"toleration with bad words", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: "Like", Effect: "Never"}}
		},
			[]string{"spec.tolerations[0].effect: Unsupported value", "spec.tolerations[0].operator: Unsupported value"}},
		{"affinity to no node", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}}
		}, []string{"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value"}},
		{"affinity of no weight and without topology", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{}}}}
		}, []string{"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Required value",
			"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value"}},
		{"spread over nothing", func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{}} },
			[]string{"spec.topologySpreadConstraints[0].maxSkew: Invalid value", "spec.topologySpreadConstraints[0].topologyKey: Required value",
				"spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value"}},
		{"gated and placed", func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.SchedulingGates = "n", []corev1.PodSchedulingGate{{Name: "g"}}
		}, []string{"spec.nodeName: Forbidden"}},

		// names and DNS
		{"bad names", func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain, p.Spec.ServiceAccountName = "a.b", "C", "D" },
			[]string{"spec.hostname: Invalid value", "spec.serviceAccountName: Invalid value", "spec.subdomain: Invalid value"}},
		{"bad DNS policy", func(p *corev1.Pod) { p.Spec.DNSPolicy = "Mine" }, []string{"spec.dnsPolicy: Unsupported value"}},
		{"no DNS at all", func(p *corev1.Pod) { p.Spec.DNSPolicy = corev1.DNSNone }, []string{"spec.dnsConfig: Required value"}},
		{"too many nameservers", func(p *corev1.Pod) {
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "x"}}
		}, []string{"spec.dnsConfig.nameservers: Invalid value", "spec.dnsConfig.nameservers[3]: Invalid value"}},
		{"deadline of none", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](0) }, []string{"spec.activeDeadlineSeconds: Invalid value"}},

		// security
		{"privileged that may not rise", first(func(c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false)}
		}), []string{"spec.containers[0].securityContext.allowPrivilegeEscalation: Invalid value"}},
		{"local profile that is not named", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}, RunAsUser: ptr.To[int64](-1)}
		}, []string{"spec.securityContext.runAsUser: Invalid value", "spec.securityContext.seccompProfile.localhostProfile: Required value"}},
		{"one process namespace, and the host's", func(p *corev1.Pod) { p.Spec.ShareProcessNamespace, p.Spec.HostPID = ptr.To(true), true },
			[]string{"spec.securityContext.shareProcessNamespace: Invalid value"}},
		{"sysctl of the host's network", func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1"}, {Name: "A!"}}}
		}, []string{"spec.securityContext.sysctls[0].name: Invalid value", "spec.securityContext.sysctls[1].name: Invalid value"}},
		{"mirror without a node", func(p *corev1.Pod) { p.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"} },
			[]string{"metadata.annotations[kubernetes.io/config.mirror]: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brief(ValidatePod(small(c.change))); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q,\nwant %q", got, c.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	p := small(func(p *corev1.Pod) {
		p.Spec.HostNetwork = true
		p.Spec.DeprecatedServiceAccount = "robot"
		c := &p.Spec.Containers[0]
		c.Image = "registry:5000/app"
		c.Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		c.Resources.Limits = list("cpu", "0.0001")
		c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}}
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	})
	s, c := &p.Spec, &p.Spec.Containers[0]
	checks := map[string]bool{
		"restart policy":        s.RestartPolicy == corev1.RestartPolicyAlways,
		"DNS policy":            s.DNSPolicy == corev1.DNSClusterFirst,
		"grace period":          *s.TerminationGracePeriodSeconds == 30,
		"scheduler":             s.SchedulerName == "default-scheduler",
		"service links":         *s.EnableServiceLinks,
		"security context":      s.SecurityContext != nil,
		"old name of account":   s.ServiceAccountName == "robot",
		"a port is no tag":      c.ImagePullPolicy == corev1.PullAlways,
		"protocol":              c.Ports[0].Protocol == corev1.ProtocolTCP,
		"host port":             c.Ports[0].HostPort == 80,
		"requests follow limit": c.Resources.Requests.Cpu().String() == "1m",
		"probe":                 c.LivenessProbe.TimeoutSeconds == 1 && c.LivenessProbe.PeriodSeconds == 10 && c.LivenessProbe.FailureThreshold == 3,
		"probe's path":          c.LivenessProbe.HTTPGet.Path == "/" && c.LivenessProbe.HTTPGet.Scheme == corev1.URISchemeHTTP,
		"message path":          c.TerminationMessagePath == "/dev/termination-log",
		"empty directory":       s.Volumes[0].EmptyDir != nil,
	}
	for what, ok := range checks {
		if !ok {
			t.Errorf("%s is wrong", what)
		}
	}
	template := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{
		Resources: corev1.ResourceRequirements{Limits: list("cpu", "1")}, Ports: []corev1.ContainerPort{{ContainerPort: 80}},
	}}}}
	DefaultTemplate(template)
	if c := template.Spec.Containers[0]; c.Resources.Requests != nil || c.Ports[0].HostPort != 0 || template.Spec.EnableServiceLinks != nil {
		t.Errorf("a template is defaulted like a pod: %+v", template.Spec)
	}
}

func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"busybox": corev1.PullAlways, "busybox:latest": corev1.PullAlways, "busybox:1": corev1.PullIfNotPresent,
		"r:5000/busybox": corev1.PullAlways, "r:5000/busybox:1": corev1.PullIfNotPresent, "busybox@sha256:00": corev1.PullIfNotPresent,
		"busybox:latest@sha256:00": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestPodResources(t *testing.T) {
	p := small(func(p *corev1.Pod) {
		p.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi")}}
		p.Spec.Containers[0].Resources.Requests = list("cpu", "500m")
	})
	r := p.Spec.Resources.Requests
	if r.Cpu().String() != "500m" || r.Memory().String() != "1Gi" {
		t.Errorf("requests %v: CPU is what containers ask for, memory the limit", r)
	}
}

func TestValidatePodUpdate(t *testing.T) {
	gated := func(p *corev1.Pod) {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a"}, {Name: "b"}}
		p.Spec.NodeSelector = map[string]string{"x": "y"}
	}
	for _, c := range []struct {
		name     string
		old, new func(*corev1.Pod)
		want     []string
	}{
		{"nothing", nil, nil, nil},
		{"image", nil, first(func(c *corev1.Container) { c.Image = "busybox:1"; c.ImagePullPolicy = corev1.PullAlways }), nil},
		{"command", nil, first(func(c *corev1.Container) { c.Command = []string{"x"} }), []string{"spec: Forbidden"}},
		{"one container more", nil, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "x"})
		},
			[]string{"spec.containers: Forbidden"}},
		{"node", nil, func(p *corev1.Pod) { p.Spec.NodeName = "n" }, []string{"spec: Forbidden"}},
		{"a deadline", nil, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, nil},
		{"a later deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](6) },
			[]string{"spec.activeDeadlineSeconds: Invalid value"}},
		{"no deadline any more", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, nil, []string{"spec.activeDeadlineSeconds: Invalid value"}},
		{"one toleration more", nil, func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: "Exists"}} }, nil},
		{"one less", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: "Exists"}} }, nil, []string{"spec.tolerations: Forbidden"}},
		{"other seconds", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: "Exists", Effect: "NoExecute"}}
		}, func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: ptr.To[int64](1)}}
		}, nil},
		{"one gate less", gated, func(p *corev1.Pod) { gated(p); p.Spec.SchedulingGates = p.Spec.SchedulingGates[1:] }, nil},
		{"one gate more", gated, func(p *corev1.Pod) { gated(p); p.Spec.SchedulingGates[1].Name = "c" }, []string{"spec.schedulingGates[1].name: Forbidden"}},
		{"fewer nodes while gated", gated, func(p *corev1.Pod) { gated(p); p.Spec.NodeSelector["z"] = "1" }, nil},
		{"other nodes while gated", gated, func(p *corev1.Pod) { gated(p); p.Spec.NodeSelector["x"] = "1" }, []string{"spec.nodeSelector[x]: Invalid value"}},
		{"fewer nodes while not gated", nil, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"z": "1"} }, []string{"spec: Forbidden"}},
		{"affinity to nodes while gated", gated, func(p *corev1.Pod) {
			gated(p)
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}}
		}, nil},
		{"affinity to pods while gated", gated, func(p *corev1.Pod) { gated(p); p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}} },
			[]string{"spec: Forbidden"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, p := small(c.old), small(c.new)
			// What is kept by its default is not what is tested.
			for i := range min(len(p.Spec.Containers), len(old.Spec.Containers)) {
				p.Spec.Containers[i].ImagePullPolicy = old.Spec.Containers[i].ImagePullPolicy
			}
			if got := brief(ValidatePodUpdate(p, old)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	errs := ValidatePodUpdate(small(func(p *corev1.Pod) { p.Spec.HostIPC = true }), small(nil))
	if text := errs.ToAggregate().Error(); !strings.Contains(text, "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,") {
		t.Errorf("refused with %q", text)
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		want   string
	}{
		{"nothing", nil, ""},
		{"a variable twice", first(func(c *corev1.Container) { c.Env = []corev1.EnvVar{{Name: "A"}, {Name: "A"}} }),
			`spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply`},
		{"a port twice", first(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{ContainerPort: 1}, {ContainerPort: 1}} }),
			"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"},
		{"an old label", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/os": "linux"} },
			`spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := small(c.change)
			if got := strings.Join(WarnPod(p, nil), "\n"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if again := WarnPod(p, p.DeepCopy()); len(again) > 0 {
				t.Errorf("warns again though nothing changed: %q", again)
			}
		})
	}
}
