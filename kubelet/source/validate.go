package source

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/pkg/pod"
)

// validate refuses what this kubelet could not run, in the words of the API server, which a static pod has not passed. Its mirror still has to.
func validate(p *corev1.Pod) field.ErrorList {
	meta, spec := field.NewPath("metadata"), field.NewPath("spec")
	var all field.ErrorList
	all = append(all, invalid(meta.Child("name"), p.Name, validation.IsDNS1123Subdomain)...)
	all = append(all, invalid(meta.Child("namespace"), p.Namespace, validation.IsDNS1123Label)...)
	if len(validation.IsDNS1123Subdomain(string(p.UID))) > 0 {
		all = append(all, field.Invalid(meta.Child("uid"), p.UID, "must be a name"))
	}
	s := &p.Spec
	all = append(all, oneOf(spec.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	all = append(all, oneOf(spec.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)...)
	if n := *s.TerminationGracePeriodSeconds; n < 0 {
		all = append(all, field.Invalid(spec.Child("terminationGracePeriodSeconds"), n, "must be greater than or equal to 0"))
	}
	if n := s.ActiveDeadlineSeconds; n != nil && *n < 1 {
		all = append(all, field.Invalid(spec.Child("activeDeadlineSeconds"), *n, "must be between 1 and 2147483647, inclusive"))
	}
	if s.Hostname != "" {
		all = append(all, invalid(spec.Child("hostname"), s.Hostname, validation.IsDNS1123Label)...)
	}
	if len(s.EphemeralContainers) > 0 {
		all = append(all, field.Forbidden(spec.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if len(s.Containers) == 0 {
		all = append(all, field.Required(spec.Child("containers"), ""))
	}
	all = append(all, references(p, spec)...)
	here := map[string]bool{}
	for i := range s.Volumes {
		at := spec.Child("volumes").Index(i).Child("name")
		all = append(all, named(at, s.Volumes[i].Name, here)...)
	}
	names := map[string]bool{}
	for i := range s.InitContainers {
		all = append(all, container(spec.Child("initContainers").Index(i), &s.InitContainers[i], names, here)...)
	}
	for i := range s.Containers {
		all = append(all, container(spec.Child("containers").Index(i), &s.Containers[i], names, here)...)
	}
	return all
}

// references refuses what only the API could give: a static pod lives without it
// (https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/).
func references(p *corev1.Pod, spec *field.Path) field.ErrorList {
	var all field.ErrorList
	no := func(at *field.Path, what string) {
		all = append(all, field.Forbidden(at, "static pods may not reference "+what))
	}
	if p.Spec.ServiceAccountName != "" {
		no(spec.Child("serviceAccountName"), "serviceaccounts")
	}
	if len(p.Spec.ImagePullSecrets) > 0 {
		no(spec.Child("imagePullSecrets"), "secrets")
	}
	if len(p.Spec.ResourceClaims) > 0 {
		no(spec.Child("resourceClaims"), "resourceclaims")
	}
	for i, v := range p.Spec.Volumes {
		at := spec.Child("volumes").Index(i)
		switch {
		case v.Secret != nil:
			no(at.Child("secret"), "secrets")
		case v.ConfigMap != nil:
			no(at.Child("configMap"), "configmaps")
		case v.PersistentVolumeClaim != nil:
			no(at.Child("persistentVolumeClaim"), "persistentvolumeclaims")
		case v.Ephemeral != nil:
			no(at.Child("ephemeral"), "persistentvolumeclaims")
		case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
			no(at.Child("csi", "nodePublishSecretRef"), "secrets")
		case v.Projected != nil:
			for j, part := range v.Projected.Sources {
				switch at := at.Child("projected", "sources").Index(j); {
				case part.Secret != nil:
					no(at.Child("secret"), "secrets")
				case part.ConfigMap != nil:
					no(at.Child("configMap"), "configmaps")
				case part.ServiceAccountToken != nil:
					no(at.Child("serviceAccountToken"), "serviceaccounts")
				case part.ClusterTrustBundle != nil:
					no(at.Child("clusterTrustBundle"), "clustertrustbundles")
				}
			}
		}
	}
	for _, c := range pod.Containers(p) {
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil || from.ConfigMapRef != nil {
				no(spec.Child("containers").Key(c.Name).Child("envFrom"), "configmaps or secrets")
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && (e.ValueFrom.SecretKeyRef != nil || e.ValueFrom.ConfigMapKeyRef != nil) {
				no(spec.Child("containers").Key(c.Name).Child("env").Key(e.Name), "configmaps or secrets")
			}
		}
	}
	return all
}

func container(at *field.Path, c *corev1.Container, names, volumes map[string]bool) field.ErrorList {
	all := named(at.Child("name"), c.Name, names)
	if strings.TrimSpace(c.Image) == "" {
		all = append(all, field.Required(at.Child("image"), ""))
	}
	all = append(all, oneOf(at.Child("imagePullPolicy"), c.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	all = append(all, oneOf(at.Child("terminationMessagePolicy"), c.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	for i, p := range c.Ports {
		at := at.Child("ports").Index(i)
		for name, n := range map[string]int32{"containerPort": p.ContainerPort, "hostPort": p.HostPort} {
			if n < 0 || n > 65535 || n == 0 && name == "containerPort" {
				all = append(all, field.Invalid(at.Child(name), n, validation.InclusiveRangeError(1, 65535)))
			}
		}
		all = append(all, oneOf(at.Child("protocol"), p.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
	}
	for i, e := range c.Env {
		if e.Name == "" {
			all = append(all, field.Required(at.Child("env").Index(i).Child("name"), ""))
		} else {
			all = append(all, invalid(at.Child("env").Index(i).Child("name"), e.Name, validation.IsRelaxedEnvVarName)...)
		}
	}
	paths := map[string]bool{}
	for i, m := range c.VolumeMounts {
		at := at.Child("volumeMounts").Index(i)
		switch {
		case m.Name == "":
			all = append(all, field.Required(at.Child("name"), ""))
		case !volumes[m.Name]:
			all = append(all, field.NotFound(at.Child("name"), m.Name))
		}
		switch {
		case m.MountPath == "":
			all = append(all, field.Required(at.Child("mountPath"), ""))
		case paths[path.Clean(m.MountPath)]:
			all = append(all, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths[path.Clean(m.MountPath)] = true
		for name, sub := range map[string]string{"subPath": m.SubPath, "subPathExpr": m.SubPathExpr} {
			if path.IsAbs(sub) {
				all = append(all, field.Invalid(at.Child(name), sub, "must be a relative path"))
			}
			for part := range strings.SplitSeq(sub, "/") {
				if part == ".." {
					all = append(all, field.Invalid(at.Child(name), sub, "must not contain '..'"))
				}
			}
		}
	}
	for name, probe := range map[string]*corev1.Probe{"startupProbe": c.StartupProbe, "readinessProbe": c.ReadinessProbe, "livenessProbe": c.LivenessProbe} {
		if probe != nil {
			all = append(all, checkProbe(at.Child(name), probe)...)
		}
	}
	if c.Lifecycle != nil {
		for name, h := range map[string]*corev1.LifecycleHandler{"postStart": c.Lifecycle.PostStart, "preStop": c.Lifecycle.PreStop} {
			if h != nil && h.Exec == nil && h.HTTPGet == nil && h.TCPSocket == nil && h.Sleep == nil {
				all = append(all, field.Required(at.Child("lifecycle", name), "must specify a handler type"))
			}
		}
	}
	return append(all, quantities(at.Child("resources"), c.Resources)...)
}

func checkProbe(at *field.Path, p *corev1.Probe) field.ErrorList {
	var all field.ErrorList
	handlers := 0
	port := func(at *field.Path, n intstr.IntOrString) {
		if n.Type == intstr.Int && len(validation.IsValidPortNum(n.IntValue())) > 0 {
			all = append(all, field.Invalid(at, n.IntValue(), validation.InclusiveRangeError(1, 65535)))
		}
	}
	if p.Exec != nil {
		if handlers++; len(p.Exec.Command) == 0 {
			all = append(all, field.Required(at.Child("exec", "command"), ""))
		}
	}
	if p.HTTPGet != nil {
		handlers++
		port(at.Child("httpGet", "port"), p.HTTPGet.Port)
		all = append(all, oneOf(at.Child("httpGet", "scheme"), p.HTTPGet.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	}
	if p.TCPSocket != nil {
		handlers++
		port(at.Child("tcpSocket", "port"), p.TCPSocket.Port)
	}
	if p.GRPC != nil {
		handlers++
		port(at.Child("grpc", "port"), intstr.FromInt32(p.GRPC.Port))
	}
	switch {
	case handlers == 0:
		all = append(all, field.Required(at, "must specify a handler type"))
	case handlers > 1:
		all = append(all, field.Forbidden(at, "may not specify more than 1 handler type"))
	}
	for name, n := range map[string]int32{"initialDelaySeconds": p.InitialDelaySeconds, "timeoutSeconds": p.TimeoutSeconds, "periodSeconds": p.PeriodSeconds,
		"successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold} {
		if n < 0 {
			all = append(all, field.Invalid(at.Child(name), n, "must be greater than or equal to 0"))
		}
	}
	return all
}

func quantities(at *field.Path, r corev1.ResourceRequirements) field.ErrorList {
	var all field.ErrorList
	for name, list := range map[string]corev1.ResourceList{"limits": r.Limits, "requests": r.Requests} {
		for resource, q := range list {
			if q.Sign() < 0 {
				all = append(all, field.Invalid(at.Child(name).Key(string(resource)), q.String(), "must be greater than or equal to 0"))
			}
			if limit, ok := r.Limits[resource]; name == "requests" && ok && q.Cmp(limit) > 0 {
				all = append(all, field.Invalid(at.Child(name), q.String(), "must be less than or equal to "+string(resource)+" limit of "+limit.String()))
			}
		}
	}
	return all
}

// named: a DNS label that nobody else has.
func named(at *field.Path, name string, taken map[string]bool) field.ErrorList {
	defer func() { taken[name] = true }()
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case taken[name]:
		return field.ErrorList{field.Duplicate(at, name)}
	}
	return invalid(at, name, validation.IsDNS1123Label)
}

func invalid(at *field.Path, value string, check func(string) []string) field.ErrorList {
	var all field.ErrorList
	for _, why := range check(value) {
		all = append(all, field.Invalid(at, value, why))
	}
	return all
}

func oneOf[T ~string](at *field.Path, value T, allowed ...T) field.ErrorList {
	for _, a := range allowed {
		if a == value {
			return nil
		}
	}
	slices.Sort(allowed)
	return field.ErrorList{field.NotSupported(at, value, allowed)}
}
