package podspec

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// Every kind of volume, with the errors that are its own.
func TestVolumeSources(t *testing.T) {
	project := func(p corev1.VolumeProjection) corev1.VolumeSource {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{p}}}
	}
	claim := func(change func(*corev1.PersistentVolumeClaimTemplate)) corev1.VolumeSource {
		t := &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "1Gi")},
		}}
		change(t)
		return corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: t}}
	}
	for _, c := range []struct {
		name   string
		source corev1.VolumeSource
		want   []string // below spec.volumes[0]
	}{
		{"empty directory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("-1")), Mode: ptr.To[int32](0o2000)}}, []string{"emptyDir.mode: Invalid value", "emptyDir.sizeLimit: Forbidden"}},
		{"host path", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x", Type: ptr.To(corev1.HostPathType("Odd"))}}, []string{"hostPath.type: Unsupported value"}},
		{"host path to nowhere", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}, []string{"hostPath.path: Required value"}},
		{"image", corev1.VolumeSource{Image: &corev1.ImageVolumeSource{PullPolicy: "Odd"}}, []string{"image.pullPolicy: Unsupported value", "image.reference: Required value"}},
		{"csi", corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{}}}, []string{"csi.driver: Required value", "csi.nodePublishSecretRef.name: Required value"}},
		{"own claim", claim(func(*corev1.PersistentVolumeClaimTemplate) {}), nil},
		{"own claim of odd things", claim(func(t *corev1.PersistentVolumeClaimTemplate) {
			t.Name = "x"
			t.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{"ReadWriteOncePod", "Odd"}
			t.Spec.Resources.Requests = list("storage", "0")
			t.Spec.VolumeMode, t.Spec.StorageClassName = ptr.To(corev1.PersistentVolumeMode("Odd")), ptr.To("A")
			t.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "Odd"}
		}), []string{"ephemeral.volumeClaimTemplate.metadata.name: Forbidden", "ephemeral.volumeClaimTemplate.spec.accessModes: Forbidden", "ephemeral.volumeClaimTemplate.spec.accessModes: Unsupported value",
			"ephemeral.volumeClaimTemplate.spec.dataSource.name: Required value", "ephemeral.volumeClaimTemplate.spec.dataSource: Invalid value",
			"ephemeral.volumeClaimTemplate.spec.dataSourceRef.name: Required value", "ephemeral.volumeClaimTemplate.spec.dataSourceRef: Invalid value",
			"ephemeral.volumeClaimTemplate.spec.resources[storage]: Invalid value", "ephemeral.volumeClaimTemplate.spec.storageClassName: Invalid value", "ephemeral.volumeClaimTemplate.spec.volumeMode: Unsupported value"}},
		{"trust bundle", project(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{SignerName: ptr.To("a.b/c"), Path: "ca"}}), nil},
		{"trust bundle of nobody", project(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}),
			[]string{"projected.sources[0].clusterTrustBundle.path: Required value", "projected.sources[0].clusterTrustBundle: Required value"}},
		{"trust bundle of two", project(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: ptr.To("x"), SignerName: ptr.To("a.b/c"), Path: "ca"}}),
			[]string{"projected.sources[0].clusterTrustBundle: Invalid value"}},
		{"trust bundle by name", project(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: ptr.To("A"), LabelSelector: &metav1.LabelSelector{}, Path: "ca"}}),
			[]string{"projected.sources[0].clusterTrustBundle.labelSelector: Invalid value", "projected.sources[0].clusterTrustBundle.name: Invalid value"}},
		{"certificate", project(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{SignerName: "a.b/c", KeyType: "ED25519", CredentialBundlePath: "x"}}), nil},
		{"certificate of odd things", project(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: "odd", KeyType: "Odd", MaxExpirationSeconds: ptr.To[int32](1), UserAnnotations: map[string]string{"a": "b"},
		}}), []string{"projected.sources[0].podCertificate.keyType: Unsupported value", "projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value",
			"projected.sources[0].podCertificate.signerName: Invalid value", "projected.sources[0].podCertificate.userAnnotations: Invalid value", "projected.sources[0].podCertificate: Required value"}},
		{"one certificate twice", project(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{SignerName: "kubernetes.io/c", KeyType: "RSA3072", MaxExpirationSeconds: ptr.To[int32](86401), KeyPath: "x", CertificateChainPath: "x"}}),
			[]string{"projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value", "projected: Invalid value"}},
		{"two sources in one", project(corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}, ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}),
			[]string{"projected.sources[0]: Forbidden"}},
		{"nfs", corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "x"}}, []string{"nfs.path: Invalid value"}},
		{"iscsi", corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "p", IQN: "iqn.2016-04.a.b:c", Lun: 1}}, nil},
		{"iscsi of odd things", corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{IQN: "odd", Lun: 256, SessionCHAPAuth: true, InitiatorName: ptr.To("eui.1")}},
			[]string{"iscsi.initiatorname: Invalid value", "iscsi.iqn: Invalid value", "iscsi.lun: Invalid value", "iscsi.secretRef: Required value", "iscsi.targetPortal: Required value"}},
		{"fc", corev1.VolumeSource{FC: &corev1.FCVolumeSource{TargetWWNs: []string{"a"}, WWIDs: []string{"b"}}}, []string{"fc.lun: Required value", "fc.targetWWNs: Invalid value"}},
		{"fc of nothing", corev1.VolumeSource{FC: &corev1.FCVolumeSource{}}, []string{"fc.targetWWNs: Required value"}},
		{"gce", corev1.VolumeSource{GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{Partition: 256}}, []string{"gcePersistentDisk.partition: Invalid value", "gcePersistentDisk.pdName: Required value"}},
		{"aws", corev1.VolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{}}, []string{"awsElasticBlockStore.volumeID: Required value"}},
		{"git", corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Directory: "/x"}}, []string{"gitRepo.directory: Invalid value", "gitRepo.repository: Required value"}},
		{"flex", corev1.VolumeSource{FlexVolume: &corev1.FlexVolumeSource{Options: map[string]string{"a.k8s.io/b": ""}}}, []string{"flexVolume.driver: Required value", "flexVolume.options[a.k8s.io/b]: Invalid value"}},
		{"flocker", corev1.VolumeSource{Flocker: &corev1.FlockerVolumeSource{DatasetName: "a/b", DatasetUUID: "u"}}, []string{"flocker.datasetName: Invalid value", "flocker: Invalid value"}},
		{"azure disk", corev1.VolumeSource{AzureDisk: &corev1.AzureDiskVolumeSource{DiskName: "d", DataDiskURI: "x", Kind: ptr.To(corev1.AzureManagedDisk), CachingMode: ptr.To(corev1.AzureDataDiskCachingMode("Odd"))}},
			[]string{"azureDisk.cachingMode: Unsupported value", "azureDisk.diskURI: Unsupported value"}},
		{"quobyte", corev1.VolumeSource{Quobyte: &corev1.QuobyteVolumeSource{Registry: "x"}}, []string{"quobyte.registry: Invalid value", "quobyte.volume: Required value"}},
		{"storageos", corev1.VolumeSource{StorageOS: &corev1.StorageOSVolumeSource{VolumeName: "A", SecretRef: &corev1.LocalObjectReference{}}}, []string{"storageos.secretRef.name: Required value", "storageos.volumeName: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []string
			for _, w := range c.want {
				want = append(want, "spec.volumes[0]."+w)
			}
			if got := brief(ValidatePod(small(volume(c.source)))); !slices.Equal(got, want) && len(got)+len(want) > 0 {
				t.Errorf("got %q,\nwant %q", got, want)
			}
		})
	}
}

func TestValidateMoreOfAPod(t *testing.T) {
	windows := func(change func(*corev1.Pod)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.OS = &corev1.PodOS{Name: "windows"}
			change(p)
		}
	}
	note := func(key, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{key: value} }
	}
	hook := func(l corev1.Lifecycle) func(*corev1.Pod) {
		return first(func(c *corev1.Container) { c.Lifecycle = &l })
	}
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"a grace period below zero", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](-1) }, nil},
		{"deletion cost", note("controller.kubernetes.io/pod-deletion-cost", "-5"), nil},
		{"odd deletion cost", note("controller.kubernetes.io/pod-deletion-cost", "3000000000"), []string{"metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value"}},
		{"AppArmor of nobody", note("container.apparmor.security.beta.kubernetes.io/x", "odd"),
			[]string{"metadata.annotations[container.apparmor.security.beta.kubernetes.io/x]: Invalid value", "metadata.annotations[container.apparmor.security.beta.kubernetes.io/x]: Invalid value"}},
		{"no system", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{} }, []string{"spec.os.name: Required value"}},
		{"odd system", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: "plan9"} }, []string{"spec.os: Unsupported value"}},
		{"windows options on linux", func(p *corev1.Pod) {
			p.Spec.OS = &corev1.PodOS{Name: "linux"}
			p.Spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{}}
		}, []string{"spec.securityContext.windowsOptions: Forbidden"}},
		{"linux on windows", windows(func(p *corev1.Pod) {
			p.Spec.HostPID, p.Spec.SecurityContext = true, &corev1.PodSecurityContext{FSGroup: ptr.To[int64](1)}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
		}), []string{"spec.containers[0].securityContext.privileged: Forbidden", "spec.hostPID: Forbidden", "spec.securityContext.fsGroup: Forbidden"}},
		{"user of windows", windows(func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{RunAsUserName: ptr.To(`CORP\robot`)}}
		}), nil},
		{"odd options of windows", windows(func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{RunAsUserName: ptr.To(`a\b\c`), GMSACredentialSpec: ptr.To(""), GMSACredentialSpecName: ptr.To("A")}}
		}), []string{"spec.securityContext.windowsOptions.gmsaCredentialSpec: Invalid value", "spec.securityContext.windowsOptions.gmsaCredentialSpecName: Invalid value", "spec.securityContext.windowsOptions.runAsUserName: Invalid value"}},
		{"a process of the host", windows(func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "d"})
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: ptr.To(true)}}
		}), []string{"spec.hostNetwork: Invalid value", "spec: Invalid value"}},
		{"users of its own, and the host's network", func(p *corev1.Pod) { p.Spec.HostUsers, p.Spec.HostNetwork, p.Spec.HostPID = ptr.To(false), true, true },
			[]string{"spec.HostPID: Forbidden", "spec.hostNetwork: Forbidden"}},

		{"signal without system", hook(corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGTERM)}), []string{"spec.containers[0].lifecycle.stopSignal: Forbidden"}},
		{"signal", func(p *corev1.Pod) {
			p.Spec.OS = &corev1.PodOS{Name: "linux"}
			hook(corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGRTMAXMINUS14)})(p)
		}, nil},
		{"odd signal", windows(hook(corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGUSR1)})), []string{"spec.containers[0].lifecycle.stopSignal: Unsupported value"}},
		{"odd gRPC probe", first(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Mode: ptr.To(corev1.GRPCProbeMode("Odd"))}}}
		}), []string{"spec.containers[0].livenessProbe.grpc.mode: Unsupported value", "spec.containers[0].livenessProbe.grpc.port: Invalid value"}},
		{"odd protocol", first(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(1), Protocol: ptr.To(corev1.HTTPProtocol("HTTP3"))}}}
		}), []string{"spec.containers[0].livenessProbe.httpGet.protocol: Unsupported value"}},
		{"restart rules", first(func(c *corev1.Container) {
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyNever)
			c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: "Restart", ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: []int32{42}}}}
		}), nil},
		{"odd restart rules", first(func(c *corev1.Container) {
			c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: "Odd"}, {Action: "Restart", ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "Like", Values: make([]int32, 256)}}}
		}), []string{"spec.containers[0].restartPolicyRules[0].action: Unsupported value", "spec.containers[0].restartPolicyRules[0].exitCodes: Required value",
			"spec.containers[0].restartPolicyRules[1].exitCodes.operator: Unsupported value", "spec.containers[0].restartPolicyRules[1].exitCodes.values: Too many", "spec.containers[0].restartPolicy: Required value"}},
		{"odd resize policies", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = "Never"
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "RestartContainer"}, {ResourceName: "disk", RestartPolicy: "Odd"}, {ResourceName: "cpu", RestartPolicy: "NotRequired"}}
		}, []string{"spec.containers[0].resizePolicy: Invalid value", "spec.containers[0].resizePolicy: Unsupported value", "spec.containers[0].resizePolicy: Unsupported value", "spec.containers[0].resizePolicy[2]: Duplicate value"}},
		{"mounts with odd options", func(p *corev1.Pod) {
			volume(corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "x"}})(p)
			p.Spec.Containers[0].VolumeMounts[0].BindMountOptions = []string{"noexec", "noexec", "sync"}
		}, []string{"spec.containers[0].volumeMounts[0].bindMountOptions: Forbidden", "spec.containers[0].volumeMounts[0].bindMountOptions[1]: Duplicate value", "spec.containers[0].volumeMounts[0].bindMountOptions[2]: Unsupported value"}},

		{"claims of nobody", func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "a"}, {Name: "a", ResourceClaimName: ptr.To("x")}, {Name: "b", ResourceClaimName: ptr.To("x"), ResourceClaimTemplateName: ptr.To("y")}}
			p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "c"}, {}, {Name: "a"}, {Name: "a"}}
		}, []string{"spec.containers[0].resources.claims[0]: Not found", "spec.containers[0].resources.claims[1]: Required value", "spec.containers[0].resources.claims[3]: Duplicate value",
			"spec.resourceClaims[0]: Invalid value", "spec.resourceClaims[1].name: Duplicate value", "spec.resourceClaims[2]: Invalid value"}},
		{"more than the pod", func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "2")}
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list("cpu", "2"), Limits: list("cpu", "3")}
		}, []string{"spec.containers[0].resources.limits[cpu]: Invalid value", "spec.resources.requests[cpu]: Invalid value"}},
		{"odd huge pages", first(func(c *corev1.Container) {
			c.Resources.Limits = corev1.ResourceList{"hugepages-2Mi": resource.MustParse("3Mi"), "cpu": resource.MustParse("1")}
		}), []string{"spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value", "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value"}},

		{"keys that select twice", func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "a", WhenUnsatisfiable: "DoNotSchedule", MatchLabelKeys: []string{"x"}, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}}}}
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{TopologyKey: "a", LabelSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"x"}, MismatchLabelKeys: []string{"x"}}, {TopologyKey: "a", MatchLabelKeys: []string{"x"}}}}}
		}, []string{"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value",
			"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].matchLabelKeys: Forbidden", "spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value"}},
		{"odd group and responders", func(p *corev1.Pod) {
			p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: ptr.To("A")}
			p.Spec.EvictionResponders = []corev1.EvictionResponder{{Name: "x", Priority: ptr.To[int32](5)}, {Name: "a.b/c", Priority: ptr.To[int32](200_000)}, {Name: "a.b/c"}}
		}, []string{"spec.evictionResponders: Forbidden", "spec.evictionResponders[0].name: Invalid value", "spec.evictionResponders[0].priority: Invalid value", "spec.evictionResponders[1].priority: Invalid value",
			"spec.evictionResponders[2].priority: Required value", "spec.evictionResponders[2]: Duplicate value", "spec.schedulingGroup.podGroupName: Invalid value"}},
		{"odd hostname", func(p *corev1.Pod) {
			p.Spec.HostnameOverride, p.Spec.HostNetwork, p.Spec.SetHostnameAsFQDN = ptr.To(strings.Repeat("a", 65)), true, ptr.To(true)
		}, []string{"spec.hostnameOverride: Forbidden", "spec.hostnameOverride: Forbidden", "spec.hostnameOverride: Too long"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := brief(ValidatePod(small(c.change)))
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q,\nwant %q", got, c.want)
			}
		})
	}
}

func TestMergeLabelKeys(t *testing.T) {
	p := small(func(p *corev1.Pod) {
		p.Labels = map[string]string{"v": "1", "t": "2"}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "a", WhenUnsatisfiable: "DoNotSchedule", MatchLabelKeys: []string{"v", "absent"}, LabelSelector: &metav1.LabelSelector{}}}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: "a", LabelSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"v"}, MismatchLabelKeys: []string{"t"}}}}}
	})
	MergeLabelKeys(p)
	if got := metav1.FormatLabelSelector(p.Spec.TopologySpreadConstraints[0].LabelSelector); got != "v in (1)" {
		t.Errorf("spread over %q", got)
	}
	if got := metav1.FormatLabelSelector(p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector); got != "t notin (2),v in (1)" {
		t.Errorf("away from %q", got)
	}
	if got := brief(ValidatePod(p)); len(got) > 0 {
		t.Errorf("what was merged is refused: %q", got)
	}
}

func TestMoreWarnings(t *testing.T) {
	p := small(func(p *corev1.Pod) {
		p.Name = "a.b"
		p.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](-1)
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{RBD: &corev1.RBDVolumeSource{}}}}
		p.Spec.Containers[0].Resources.Requests = list("memory", "500m")
		p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"::ffff:1.2.3.4"}}
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "a"}}}}
	})
	want := []string{
		"metadata.name: this is used in the Pod's hostname",
		`metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead`,
		"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
		"spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
		"spec.dnsConfig.nameservers[0]: ",
		"spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
		`spec.containers[0].resources.requests[memory]: fractional byte value "500m" is invalid, must be an integer`,
	}
	got := WarnPod(p, nil)
	if len(got) != len(want) {
		t.Fatalf("warned %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("warned %q, want %q", got[i], want[i])
		}
	}
}

func TestFixedAnnotations(t *testing.T) {
	const key = "container.apparmor.security.beta.kubernetes.io/c"
	for _, c := range []struct {
		is, was map[string]string
		want    string
	}{
		{map[string]string{key: "a"}, map[string]string{key: "a"}, ""},
		{map[string]string{key: "a"}, map[string]string{key: "b"}, "may not remove or update AppArmor annotations"},
		{map[string]string{}, map[string]string{key: "b"}, "may not remove or update AppArmor annotations"},
		{map[string]string{key: "a"}, nil, "may not add AppArmor annotations"},
		{map[string]string{"kubernetes.io/config.mirror": "a"}, nil, "may not add mirror pod annotation"},
		{map[string]string{"other": "a"}, nil, ""},
	} {
		var got string
		for _, e := range ValidatePodUpdate(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: c.is}}, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: c.was}}) {
			got += e.Detail
		}
		if got != c.want {
			t.Errorf("%v from %v: %q, want %q", c.is, c.was, got, c.want)
		}
	}
}
