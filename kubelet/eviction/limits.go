package eviction

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// diskUse is what a pod has on the node's disks, in bytes and inodes.
type diskUse struct {
	volumes    map[string]amounts // folders on the node's disk that live as long as the pod, by volume
	containers map[string]amounts // writable layers of the containers' newest attempts, by container
	logs       map[string]amounts // by container
}

type amounts struct{ bytes, inodes int64 }

func (a amounts) plus(b amounts) amounts { return amounts{a.bytes + b.bytes, a.inodes + b.inodes} }

func (a amounts) of(r corev1.ResourceName) int64 {
	if r == inodes {
		return a.inodes
	}
	return a.bytes
}

// limited: the pod names a limit for what it has on disk, so it has to be measured.
func limited(p *corev1.Pod) bool {
	for i := range p.Spec.Volumes {
		if e := p.Spec.Volumes[i].EmptyDir; onDisk(e) && e.SizeLimit != nil && e.SizeLimit.Sign() > 0 {
			return true
		}
	}
	for _, c := range pod.Containers(p) {
		if _, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]; ok {
			return true
		}
	}
	_, ok := pod.Limits(p)[corev1.ResourceEphemeralStorage]
	return ok
}

// onDisk: the medium Memory is held to its limit by the kernel.
func onDisk(e *corev1.EmptyDirVolumeSource) bool {
	return e != nil && e.Medium == corev1.StorageMediumDefault
}

// inMemory: the pod has files in memory, which stay when its processes end.
func inMemory(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
	})
}

// The limits of pods, as the metric of evictions names them.
const (
	emptyDirLimit  Signal = "emptydirfs.limit"
	podLimit       Signal = "ephemeralpodfs.limit"
	containerLimit Signal = "ephemeralcontainerfs.limit"
)

// overLimit says which of its own limits a pod exceeds, and a message; empty: none.
func overLimit(p *corev1.Pod, use diskUse) (Signal, string) {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if onDisk(v.EmptyDir) && v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() > 0 && use.volumes[v.Name].bytes > v.EmptyDir.SizeLimit.Value() {
			return emptyDirLimit, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit)
		}
	}
	if limit, ok := pod.Limits(p)[corev1.ResourceEphemeralStorage]; ok {
		var all int64
		for _, list := range []map[string]amounts{use.volumes, use.containers, use.logs} {
			for _, a := range list {
				all += a.bytes
			}
		}
		if all > limit.Value() {
			return podLimit, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", &limit)
		}
	}
	for _, c := range pod.Containers(p) {
		limit, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		if ok && use.containers[c.Name].bytes+use.logs[c.Name].bytes > limit.Value() {
			return containerLimit, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, &limit)
		}
	}
	return "", ""
}
