package cgroups

import (
	"errors"
	"path"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// ErrNotFound says that a group does not exist (any more).
var ErrNotFound = errors.New("control group does not exist")

// Config says where the tree stands.
type Config struct {
	// Root is the group above kubepods, «/» or «» for the top of every hierarchy. Several nodes on one machine need different ones.
	Root string
	// MountPoint is where the control groups are mounted; empty means /sys/fs/cgroup.
	MountPoint string
	// Pods limits all pods together: what the node keeps for itself they cannot have. Zero: they may take everything.
	Pods Resources
}

// QoS is what the pods of the classes asked for together.
type QoS struct {
	// BurstableMilli are the CPU requests of burstable pods, in thousandths.
	BurstableMilli int64
	// GuaranteedMemory and BurstableMemory are bytes to keep for pods of these classes; 0 keeps none.
	GuaranteedMemory, BurstableMemory int64
}

// Tree is the node's control groups. Its methods may be called at the same time for different pods.
type Tree struct {
	cfg Config
	log *zap.Logger

	late atomic.Pointer[error] // why cfg.Pods could not be set yet
}

// KubepodsPath is the group of all pods.
func (t *Tree) KubepodsPath() string {
	return path.Join("/", t.cfg.Root, "kubepods")
}

// PodPath is the group of one pod, without making it. An empty QoS class counts as BestEffort.
func (t *Tree) PodPath(qos corev1.PodQOSClass, podUID string) string {
	name := "pod" + strings.ReplaceAll(podUID, "/", "_")
	switch qos {
	case corev1.PodQOSGuaranteed:
		return path.Join(t.KubepodsPath(), name)
	case corev1.PodQOSBurstable:
		return path.Join(t.KubepodsPath(), "burstable", name)
	default:
		return path.Join(t.KubepodsPath(), "besteffort", name)
	}
}
