package statefulset

import (
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/controller-manager/podset"
)

// hashLabel is the label under which a revision bears the hash of its template. Pods bear the name of their revision, under
// another: controller-revision-hash.
const hashLabel = "controller.kubernetes.io/hash"

// split takes a pod's name apart into that of a set and an ordinal, as podName puts them together.
func split(name string) (set string, ordinal int, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 1 {
		return "", 0, false
	}
	number := name[i+1:]
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || strconv.FormatInt(n, 10) != number { // 01, +1
		return "", 0, false
	}
	return name[:i], int(n), true
}

// ordinalOf is the ordinal of a pod that is named by the set.
func ordinalOf(set *appsv1.StatefulSet, p *corev1.Pod) (int, bool) {
	name, n, ok := split(p.Name)
	return n, ok && name == set.Name
}

func podName(set *appsv1.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}

func start(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

func replicas(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

func revisionOf(p *corev1.Pod) string { return p.Labels[appsv1.StatefulSetRevisionLabel] }

// newPod is the pod of an ordinal as it is to be created.
func newPod(set *appsv1.StatefulSet, rev revision, ordinal int) *corev1.Pod {
	p := podset.FromTemplate(rev.template, set, kind)
	p.Name = podName(set, ordinal)
	p.Labels = identified(p.Labels, p.Name, ordinal)
	p.Labels[appsv1.StatefulSetRevisionLabel] = rev.name
	p.Spec.Hostname, p.Spec.Subdomain = p.Name, set.Spec.ServiceName
	var volumes []corev1.Volume
	claimed := map[string]bool{}
	for i := range set.Spec.VolumeClaimTemplates {
		name := set.Spec.VolumeClaimTemplates[i].Name
		claimed[name] = true
		source := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, i, ordinal)}
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: source}})
	}
	for _, v := range p.Spec.Volumes {
		if !claimed[v.Name] {
			volumes = append(volumes, v)
		}
	}
	p.Spec.Volumes = volumes
	return p
}

// identified are labels with those that tell which pod of its set it is.
func identified(have map[string]string, name string, ordinal int) map[string]string {
	l := maps.Clone(have)
	if l == nil {
		l = map[string]string{}
	}
	l[appsv1.StatefulSetPodNameLabel] = name
	l[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
	return l
}

// mended is the pod with the labels of its identity, nil when it has them.
func mended(p *corev1.Pod, ordinal int) *corev1.Pod {
	want := identified(p.Labels, p.Name, ordinal)
	if maps.Equal(p.Labels, want) {
		return nil
	}
	p = p.DeepCopy()
	p.Labels = want
	return p
}

// stored says whether the pod has the claims of its ordinal for volumes. Volumes of a pod cannot be changed: one that has not
// (it was adopted) must be replaced.
func stored(set *appsv1.StatefulSet, p *corev1.Pod, ordinal int) bool {
	has := map[string]string{}
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			has[v.Name] = v.PersistentVolumeClaim.ClaimName
		}
	}
	for i := range set.Spec.VolumeClaimTemplates {
		if has[set.Spec.VolumeClaimTemplates[i].Name] != claimName(set, i, ordinal) {
			return false
		}
	}
	return true
}
