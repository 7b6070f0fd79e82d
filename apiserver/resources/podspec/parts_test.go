package podspec

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func debugger(name string, change func(*corev1.EphemeralContainer)) corev1.EphemeralContainer {
	e := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "busybox"}}
	if change != nil {
		change(&e)
	}
	return e
}

// stored makes a pod look like one that was read.
func stored(change func(*corev1.Pod)) *corev1.Pod {
	p := small(change)
	p.ResourceVersion, p.UID = "1", "u"
	return p
}

func TestEphemeralContainers(t *testing.T) {
	had := func(p *corev1.Pod) {
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{debugger("d", nil)}
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	}
	add := func(change func(*corev1.EphemeralContainer)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, debugger("e", change))
		}
	}
	const at = "spec.ephemeralContainers[1]."
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"nothing", func(*corev1.Pod) {}, nil},
		{"one more", add(func(e *corev1.EphemeralContainer) { e.TargetContainerName = "c" }), nil},
		{"one more before", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append([]corev1.EphemeralContainer{debugger("e", nil)}, p.Spec.EphemeralContainers...)
		}, nil},
		{"one more, and what is kept back", func(p *corev1.Pod) {
			add(nil)(p)
			p.Spec.Containers[0].Image, p.Labels = "other", map[string]string{"a": "b"}
		}, nil},
		{"none", func(p *corev1.Pod) { p.Spec.EphemeralContainers = nil }, []string{"spec.ephemeralContainers: Forbidden"}},
		{"another image", func(p *corev1.Pod) { p.Spec.EphemeralContainers[0].Image = "x" }, []string{"spec.ephemeralContainers: Forbidden"}},
		{"of a name there is", add(func(e *corev1.EphemeralContainer) { e.Name = "c" }), []string{at + "name: Duplicate value"}},
		{"of no image", add(func(e *corev1.EphemeralContainer) { e.Image = "" }), []string{at + "image: Required value"}},
		{"beside nobody", add(func(e *corev1.EphemeralContainer) { e.TargetContainerName = "d" }), []string{at + "targetContainerName: Not found"}},
		{"with what it cannot have", add(func(e *corev1.EphemeralContainer) {
			e.Ports = []corev1.ContainerPort{{ContainerPort: 1}}
			e.Resources.Requests = list("cpu", "1")
			e.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}
			e.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			e.LivenessProbe, e.ReadinessProbe, e.StartupProbe, e.Lifecycle = &corev1.Probe{}, &corev1.Probe{}, &corev1.Probe{}, &corev1.Lifecycle{}
			e.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPath: "x"}}
		}), []string{at + "lifecycle: Forbidden", at + "livenessProbe: Forbidden", at + "ports: Forbidden", at + "readinessProbe: Forbidden", at + "resizePolicy: Forbidden",
			at + "resources: Forbidden", at + "restartPolicy: Forbidden", at + "startupProbe: Forbidden", at + "volumeMounts[0].subPath: Forbidden"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := stored(had)
			p := old.DeepCopy()
			c.change(p)
			KeepForEphemeral(p, old)
			DefaultPod(p)
			if got := brief(ValidateEphemeral(p, old)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if p.Spec.Containers[0].Image != "busybox" || len(p.Labels) > 0 {
				t.Error("more than ephemeral containers changed")
			}
		})
	}
	if got := brief(ValidatePod(small(had))); !slices.Equal(got, []string{"spec.ephemeralContainers: Forbidden"}) {
		t.Errorf("at create: %q", got)
	}
	if got := brief(ValidatePod(stored(had))); len(got) > 0 {
		t.Errorf("at update: %q", got)
	}
	mirror := stored(func(p *corev1.Pod) { p.ObjectMeta.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"} })
	if got := brief(ValidateEphemeral(mirror, mirror)); !slices.Equal(got, []string{"[]: Forbidden"}) {
		t.Errorf("in a mirror pod: %q", got)
	}
}

func TestResize(t *testing.T) {
	set := func(c *corev1.Container, requests, limits string) {
		c.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(requests)}, Limits: corev1.ResourceList{"cpu": resource.MustParse(limits)}}
	}
	burstable := func(p *corev1.Pod) {
		set(&p.Spec.Containers[0], "1", "2")
		p.Spec.InitContainers = []corev1.Container{
			{Name: "i", Image: "i", ResizePolicy: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "RestartContainer"}}},
			{Name: "s", Image: "s", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
		}
		set(&p.Spec.InitContainers[0], "1", "2")
		set(&p.Spec.InitContainers[1], "1", "2")
	}
	for _, c := range []struct {
		name        string
		old, change func(*corev1.Pod)
		want        []string
	}{
		{"nothing", burstable, func(*corev1.Pod) {}, nil},
		{"more cpu, and some memory", burstable, func(p *corev1.Pod) {
			set(&p.Spec.Containers[0], "2", "3")
			p.Spec.Containers[0].Resources.Requests["memory"] = resource.MustParse("1Gi")
			set(&p.Spec.InitContainers[1], "2", "3")
		}, nil},
		{"what is kept back", burstable, func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = "other"
			p.Spec.NodeName, p.Labels = "n", map[string]string{"a": "b"}
		}, nil},
		{"another class", burstable, func(p *corev1.Pod) {
			for i := range p.Spec.InitContainers {
				set(&p.Spec.InitContainers[i], "2", "2")
				p.Spec.InitContainers[i].Resources.Limits["memory"] = resource.MustParse("1Gi")
			}
			set(&p.Spec.Containers[0], "2", "2")
			p.Spec.Containers[0].Resources.Limits["memory"] = resource.MustParse("1Gi")
		}, []string{"spec.initContainers[0]: Forbidden", "spec: Invalid value"}},
		{"requests of best effort", nil, func(p *corev1.Pod) { set(&p.Spec.Containers[0], "1", "2") }, []string{"spec: Invalid value"}},
		{"more than the limit", burstable, func(p *corev1.Pod) { set(&p.Spec.Containers[0], "3", "2") }, []string{"spec.containers[0].resources.requests: Invalid value"}},
		{"no limit", burstable, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = nil }, []string{"spec.containers[0].resources.limits: Forbidden"}},
		{"a disk", burstable, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests["ephemeral-storage"] = resource.MustParse("1Gi")
			p.Spec.InitContainers[1].Resources.Requests["ephemeral-storage"] = resource.MustParse("1Gi")
		}, []string{"spec.initContainers[1]: Forbidden", "spec: Forbidden"}},
		{"another policy", burstable, func(p *corev1.Pod) {
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}
		}, []string{"spec: Forbidden"}},
		{"another order", burstable, func(p *corev1.Pod) { slices.Reverse(p.Spec.InitContainers) },
			[]string{"spec.initContainers[0].name: Forbidden", "spec.initContainers[1].name: Forbidden"}},
		{"one container less", burstable, func(p *corev1.Pod) { p.Spec.InitContainers = p.Spec.InitContainers[:1] }, []string{"spec.initContainers: Forbidden"}},
		{"the pod as a whole", func(p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "2")} },
			func(p *corev1.Pod) { p.Spec.Resources.Requests = list("cpu", "3") }, nil},
		{"the pod as a whole no more", func(p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "2")} },
			func(p *corev1.Pod) { p.Spec.Resources.Requests = list("memory", "3") }, []string{"spec.resources.requests: Forbidden"}},
		{"Windows", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: "windows"} }, func(*corev1.Pod) {}, []string{"[]: Forbidden"}},
		{"a node that does not tell", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}, func(*corev1.Pod) {}, []string{"spec: Forbidden"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := stored(c.old)
			p := old.DeepCopy()
			c.change(p)
			KeepForResize(p, old)
			DefaultPod(p)
			if got := brief(ValidateResize(p, old)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if p.Spec.Containers[0].Image != "busybox" || p.Spec.NodeName != "" || len(p.Labels) > 0 {
				t.Error("more than sizes changed")
			}
		})
	}
}
