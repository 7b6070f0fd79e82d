package cgroups

import (
	"errors"
	"path"
	"strings"

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
}

// Tree is the node's control groups. Its methods may be called at the same time for different pods.
type Tree struct {
	cfg Config
	log *zap.Logger
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
