package pods

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/volumes"
)

// Sandboxes makes and removes the namespaces of pods.
type Sandboxes interface {
	CreateSandbox(ctx context.Context, spec containers.SandboxSpec) (containers.Sandbox, error)
	RemoveSandbox(ctx context.Context, id string) error
}

// Containers runs containers.
type Containers interface {
	CreateContainer(ctx context.Context, spec containers.ContainerSpec) (string, error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	UpdateResources(ctx context.Context, id string, res cgroups.Resources) error
	Exec(ctx context.Context, id string, spec containers.ExecSpec) (int, error)
}

// Observer tells what is there and what happens.
type Observer interface {
	List(ctx context.Context) (containers.Listing, error)
	ListPod(ctx context.Context, podUID string) (containers.Listing, error)
	Events() <-chan containers.Event
}

// Images makes images present.
type Images interface {
	Ensure(ctx context.Context, spec images.PullSpec) (images.Image, error)
}

// Network connects pods.
type Network interface {
	Restore(held []network.Held)
	Setup(ctx context.Context, pod network.Pod) (network.Attachment, error)
	Teardown(ctx context.Context, netns, podKey string) error
}

// Groups keeps the control groups of pods.
type Groups interface {
	CreatePod(qos corev1.PodQOSClass, podUID string, res cgroups.Resources) (string, error)
	RemovePod(ctx context.Context, podUID string) error
	PodUIDs() ([]string, error)
	SetQoS(q cgroups.QoS) error
	Update(path string, res cgroups.Resources) error
	Actual(path string) (cgroups.Actual, error)
	Stats(path string) (cgroups.Stats, error)
}

// Volumes makes volumes.
type Volumes interface {
	Setup(ctx context.Context, pod *corev1.Pod, facts resolve.Facts) (map[string]volumes.Volume, error)
	Teardown(ctx context.Context, uid types.UID) error
	Renew(uid types.UID, newer *corev1.Pod)
	Pods() ([]types.UID, error)
}

// Objects follows what pods refer to.
type Objects interface {
	resolve.Lookup
	Keep(pod *corev1.Pod)
	Drop(uid types.UID)
	Changes() <-chan struct{}
	TakeChanged() []types.UID
}

// Probes asks containers how they are.
type Probes interface {
	Set(uid types.UID, targets []probes.Target)
	Results() <-chan probes.Result
}

// Status writes to the API.
type Status interface {
	Set(p *corev1.Pod, st corev1.PodStatus)
	Delete(p *corev1.Pod)
	Forget(uid types.UID)
	Acks() <-chan status.Ack
}

// Recorder tells users what happened.
type Recorder interface {
	Eventf(object runtime.Object, kind, reason, format string, args ...any)
}

// Parts are the rooms that pods need.
type Parts struct {
	Sandboxes  Sandboxes
	Containers Containers
	Observer   Observer
	Images     Images
	Network    Network
	Groups     Groups
	Volumes    Volumes
	Objects    Objects
	Probes     Probes
	Status     Status
	Events     Recorder
	// Guards may refuse pods; see Guard.
	Guards []Guard
	// Grants give containers what is theirs alone; see Grants.
	Grants []Grants
	// Updates is the stream of wished pods.
	Updates <-chan source.Update
	// Node is this node as it is now, nil if not known yet; Services are all services, for variables, and to know who takes requests.
	Node     func() *corev1.Node
	Services func() ([]*corev1.Service, error)
	// Handler is the name of the OCI runtime that a RuntimeClass stands for.
	Handler func(ctx context.Context, class string) (string, error)
}

// Config of the pods of this node.
type Config struct {
	Node string
	// NodeIPs are the node's addresses.
	NodeIPs []netip.Addr
	// Root is the kubelet's folder, Logs that of the containers' logs.
	Root, Logs string
	DNS        DNS
	Sizing     Sizing
	// ExclusiveCPUs: the CPU manager's policy is static, so containers of guaranteed pods cannot be given other CPUs while they run.
	ExclusiveCPUs bool
	// SeccompDefault gives containers that name no seccomp profile that of the runtime instead of none.
	SeccompDefault bool
	// UnsafeSysctls are names and beginnings of names, with a star, of sysctls that pods may set beside the safe ones.
	UnsafeSysctls []string
	// SingleOOMKill has the kernel kill one process of a container whose memory runs out, not all of them; on cgroup v1 it always does.
	SingleOOMKill bool
	// AppArmor: the kernel has it.
	AppArmor bool
	Backoff  Backoff
	// Drain is how long a pod that takes requests goes on after its end was asked for, see drained; 0: no longer than others.
	Drain time.Duration
	// Relist is how often everything is looked at again although nothing happened; 0 means 30 s.
	Relist time.Duration
}
