package framework

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"pilothouse.dev/scheduler/nodeinfo"
)

// EventKind is what happened in the cluster.
type EventKind int

// The kinds. Anything else does not make a pod schedulable.
const (
	NodeAdded      EventKind = iota // Node
	NodeUpdated                     // OldNode and Node differ in labels, taints, allocatable resources or a cordon
	PodGone                         // Pod left its node: deleted, finished, or not bound after all
	PodShrunk                       // Pod, which has a node, asks for less than before
	WaiterUpdated                   // Pod is the waiting pod itself, changed in what matters
	ClaimChanged                    // Claim came or changed
	VolumeChanged                   // Volume came or changed
	ClassChanged                    // Class came or changed
	DriversChanged                  // what storage drivers offer on a node, or have attached there
	StorageChanged                  // what storage drivers have left
	NodeGone                        // Node, deleted: not for its room, but for what was to be made there
)

var eventNames = [...]string{"NodeAdd", "NodeUpdate", "AssignedPodDelete", "AssignedPodUpdate", "UnscheduledPodUpdate",
	"PersistentVolumeClaimUpdate", "PersistentVolumeUpdate", "StorageClassUpdate", "CSINodeUpdate", "CSIStorageCapacityUpdate", "NodeDelete"}

// String is the event's name as logs and metrics show it.
func (k EventKind) String() string { return eventNames[k] }

// Event is one such thing with the objects concerned.
type Event struct {
	Kind          EventKind
	Node, OldNode *corev1.Node
	Pod           *nodeinfo.Pod
	Claim         *corev1.PersistentVolumeClaim
	Volume        *corev1.PersistentVolume
	Class         *storagev1.StorageClass
}
