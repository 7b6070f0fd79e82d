package containers

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	"pilothouse.dev/kubelet/cgroups"
)

// Errors that a caller can act on; details are wrapped around them.
var (
	// ErrNotFound: no such sandbox or container.
	ErrNotFound = errors.New("not found")
	// ErrNotRunning: exec, attach or signal of a container that does not run.
	ErrNotRunning = errors.New("container is not running")
	// ErrRunsAsRoot: runAsNonRoot is set and the user turns out to be root (CreateContainerConfigError upstream).
	ErrRunsAsRoot = errors.New("container has runAsNonRoot and image will run as root")
	// ErrNoImage: the image named by a ContainerSpec is not on the node.
	ErrNoImage = errors.New("image is not on this node")
	// ErrTimeout: an exec ran longer than its timeout and was killed.
	ErrTimeout = errors.New("command timed out")
	// ErrNoHandler: the sandbox names a runtime handler that Config does not have.
	ErrNoHandler = errors.New("no runtime is configured for the handler")
	// ErrUnsupported: the spec asks for something that this runtime, this kernel or this OCI runtime does not do.
	ErrUnsupported = errors.New("not supported")
)

// Config says where the runtime lives. Every path is of this node alone.
type Config struct {
	// Address is containerd's socket, with or without unix:// before it.
	Address string
	// Namespace of containerd; empty means k8s.io.
	Namespace string
	// StateDir holds pins (StateDir/sandboxes/<id>), FIFOs (StateDir/io/<id>) and runc's state; best on a tmpfs, like /run. containerd must live in the
	// same mount namespace as the kubelet, or it does not see the pins.
	StateDir string
	// Snapshotter; empty means overlayfs.
	Snapshotter string
	// OCIRuntime is the path or name of the OCI runtime binary; empty means runc. It is what pods get that name no handler, or "runc".
	OCIRuntime string
	// Handlers are other OCI runtimes by the name that a RuntimeClass gives.
	Handlers map[string]string
	// StartsInFlight bounds container starts at the same time; 0 means 4.
	StartsInFlight int
	// MountPoint of the control groups; empty means /sys/fs/cgroup.
	MountPoint string
}

// Sink takes what one container prints. Each writer is used by one goroutine at a time; a Write takes all it is given or fails. Close ends a half line.
// logs.Writer is one.
type Sink interface {
	Stdout() io.Writer
	Stderr() io.Writer
	Close() error
}

// OpenLog opens the log of a container, to append; called at start and again after a kubelet restart.
type OpenLog func(path string) (Sink, error)

// SandboxSpec is what a new pod sandbox is made of.
type SandboxSpec struct {
	PodUID, PodNamespace, PodName string
	// Attempt counts the sandboxes of one pod, from 0.
	Attempt int
	// Hostname is set in the pod's UTS namespace; ignored with HostNetwork.
	Hostname string
	// HostNetwork uses the node's network and UTS namespaces (the ones the kubelet lives in); HostIPC and HostPID the node's others.
	HostNetwork, HostIPC, HostPID bool
	// ShareProcessNamespace has the containers see each other's processes; the first one is then a process that waits and reaps (pause.go).
	ShareProcessNamespace bool
	// CgroupParent is the group of that process; needed with ShareProcessNamespace.
	CgroupParent string
	// OwnUsers gives the sandbox a user namespace: the users of its containers, root too, are nobody on the node. Only where Features says so, and
	// without any of the node's namespaces.
	OwnUsers bool
	// Handler is the name of the OCI runtime; ErrNoHandler if it is not known.
	Handler string
	// Sysctls are set in the pod's namespaces, dotted names.
	Sysctls map[string]string
	// Connect joins the network namespace pinned at that path to the pod network and says the pod's addresses, which are recorded
	// with the sandbox. Called once, before the record is written; not called with HostNetwork. Nil: only loopback.
	Connect func(ctx context.Context, netns string) ([]netip.Addr, error)
	// Labels are the caller's own, given back by List. Key and value together at most 4096 bytes.
	Labels map[string]string
}

// Sandbox is a pod's namespaces.
type Sandbox struct {
	ID                            string
	PodUID, PodNamespace, PodName string
	Attempt                       int
	Hostname                      string
	HostNetwork, HostIPC, HostPID bool
	// SharedPID: the containers have one PID namespace, whose first process is that of the container PauseID, with the number PausePID on the node.
	SharedPID bool
	PauseID   string
	PausePID  int
	// FirstID is the node's number of the sandbox's root, when it has users of its own; else 0.
	FirstID uint32
	// Handler is the name of the OCI runtime as the spec gave it.
	Handler string
	// Features of that runtime.
	Features Features
	// IPs as Connect said them; empty with HostNetwork.
	IPs []netip.Addr
	// NetNS is the path of the pinned network namespace; empty with HostNetwork.
	NetNS   string
	Created time.Time
	// Ready is false when the pins are gone (the machine was restarted), or the first process of a shared PID namespace is: remove it and make
	// another.
	Ready  bool
	Labels map[string]string
}

// Mount is one bind mount in a container. The source exists on the node.
type Mount struct {
	Source, Target string
	ReadOnly       bool
	// RecursiveReadOnly makes what is mounted below the source read-only too; only with ReadOnly, and where Features says so.
	RecursiveReadOnly bool
	// Propagation: "" or "private", "rslave" (HostToContainer), "rshared" (Bidirectional).
	Propagation string

	locked []string // options that the source is mounted with, and that a sandbox with users of its own cannot take away
}

// Device is a host device given to a container, or a block device. Permissions of "rwm".
type Device struct {
	Source, Target, Permissions string
}

// Seccomp profiles.
const (
	SeccompRuntimeDefault = "RuntimeDefault"
	SeccompUnconfined     = "Unconfined"
	SeccompLocalhost      = "Localhost"
)

// Security is what a container's process may do. Zero: user of the image, the usual capabilities, masked paths, no seccomp.
type Security struct {
	// RunAsUser and RunAsGroup override the image's user; nil: the image's.
	RunAsUser, RunAsGroup *int64
	RunAsNonRoot          bool
	// SupplementalGroups are added to those of the image's /etc/group (fsGroup too: the caller adds it), or, with StrictGroups, stand alone.
	SupplementalGroups []int64
	StrictGroups       bool
	Privileged         bool
	// NoNewPrivileges is allowPrivilegeEscalation: false.
	NoNewPrivileges bool
	ReadOnlyRoot    bool
	// CapAdd and CapDrop without CAP_, any case; "ALL" is understood.
	CapAdd, CapDrop []string
	// Seccomp is one of the constants; empty means unconfined. SeccompPath is the file of a Localhost profile.
	Seccomp, SeccompPath string
	// AppArmor is one of the constants of seccomp, or empty: then, as with RuntimeDefault, the usual profile where the kernel has AppArmor.
	// AppArmorProfile is the name of a Localhost profile, which the kernel has loaded.
	AppArmor, AppArmorProfile string
	// SELinux is the label of the process, where SELinux is on; else it says nothing.
	SELinux *SELinux
	// UnmaskedProc is procMount: Unmasked.
	UnmaskedProc bool
}

// SELinux are parts of a label; an empty one is as usual.
type SELinux struct{ User, Role, Type, Level string }

// Identity is who a container's first process is. Groups begin with GID.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
}

// Features are what an OCI runtime can do on this kernel.
type Features struct {
	RecursiveReadOnly bool
	UserNamespaces    bool
}

// Handler is an OCI runtime by the name that RuntimeClasses use; the usual one has the name "" and "runc".
type Handler struct {
	Name     string
	Features Features
}

// ContainerSpec is what a new container is made of.
type ContainerSpec struct {
	SandboxID string
	Name      string
	Attempt   int
	// Image is Image.ID or Image.Name as images.Ensure said it.
	Image string
	// Command replaces the image's entrypoint, Args its command, with the API's rules: a Command without Args drops the image's command.
	Command, Args []string
	// Env are NAME=value, over the image's own.
	Env []string
	// WorkingDir; empty means the image's, then «/».
	WorkingDir string
	// Stdin keeps standard input open for Attach; StdinOnce closes it after the first attach ends. TTY gives a terminal.
	Stdin, StdinOnce, TTY bool
	// LogPath is the file that OpenLog gets; its folder exists. Empty: output is thrown away.
	LogPath string
	Mounts  []Mount
	Devices []Device
	// CgroupParent is the pod's group (cgroups.Tree.PodPath); the container's own is made under it with Resources.
	CgroupParent string
	Resources    cgroups.Resources
	// OOMScoreAdj of the process; left as it is where the kubelet may not change it.
	OOMScoreAdj *int
	// SingleOOMKill: where memory runs out the kernel kills one process; else, on cgroup v2, the whole container. On v1 it is always one.
	SingleOOMKill bool
	Security      Security
	// JoinPID is the ID of a running container whose PID namespace this one joins; empty: its own, or the sandbox's.
	JoinPID string
	// StopSignal overrides the image's, "SIGUSR1" or "USR1" or "10".
	StopSignal string
	// Labels are the caller's own, given back by List.
	Labels map[string]string
}

// State of a container.
type State string

// The states; see the package doc.
const (
	Created State = "Created"
	Running State = "Running"
	Exited  State = "Exited"
)

// Reasons of an exit.
const (
	ReasonCompleted  = "Completed"
	ReasonError      = "Error"
	ReasonOOMKilled  = "OOMKilled"
	ReasonStartError = "StartError"
	// ReasonUnknown: the task was lost (reboot), the exit code is a guess (137).
	ReasonUnknown = "ContainerStatusUnknown"
)

// Container is one container and its status.
type Container struct {
	ID        string
	SandboxID string
	PodUID    string
	Name      string
	Attempt   int
	// Image as given in the spec, ImageID its config digest, ImageRef name@digest (the manifest's), or that digest alone for an image without a name.
	Image, ImageID, ImageRef string
	LogPath                  string
	CgroupPath               string
	TTY, Stdin               bool
	State                    State
	Created                  time.Time
	// Started and Finished are zero until then.
	Started, Finished time.Time
	// ExitCode, Reason and Message hold once Exited.
	ExitCode int
	Reason   string
	Message  string
	// PID of the first process while Running, on the node.
	PID int
	// User is who the first process is; nil if the record does not say.
	User *Identity
	// StopSignal is what ends it, SIGTERM if nobody named one.
	StopSignal string
	firstID    uint32 // as the sandbox's
	Labels     map[string]string
}

// Listing is everything of ours that containerd holds.
type Listing struct {
	Sandboxes  []Sandbox
	Containers []Container
}

// EventKind says what an Event is about.
type EventKind string

// The kinds. Relist has no ids: events may have been missed, ask List for everything.
const (
	EventStarted EventKind = "Started"
	EventExited  EventKind = "Exited"
	EventOOM     EventKind = "OOM"
	EventRelist  EventKind = "Relist"
)

// Event says that a container changed; read the status with Inspect or List.
type Event struct {
	Kind        EventKind
	PodUID      string
	ContainerID string
}

// Size of a terminal.
type Size struct{ Width, Height uint16 }

// ExecSpec is a command in a running container. Streams may be nil. With TTY, Stderr stays unused.
type ExecSpec struct {
	Args           []string
	TTY            bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Resize is read while the command runs; nil without a terminal.
	Resize <-chan Size
	// Timeout ends the command with KILL and the error ErrTimeout; 0: only ctx ends it.
	Timeout time.Duration
}

// AttachSpec are the streams of an attach. Output starts at the moment of attaching.
type AttachSpec struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// Usage are a running container's numbers.
type Usage struct {
	cgroups.Stats
}

// LayerUsage is what a container's writable layer takes on disk.
type LayerUsage struct {
	Bytes, Inodes int64
}
