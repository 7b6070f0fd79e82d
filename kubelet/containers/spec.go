package containers

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// specInput is all that an OCI spec is made of. buildSpec is pure but for privileged containers and Localhost profiles, whose devices and
// file are looked up before (hostDevices, profile).
type specInput struct {
	id          string
	spec        ContainerSpec
	sandbox     Sandbox
	pinDir      string
	image       imageFacts
	who         identityOf
	may         allowance
	kernel      kernel
	pidPath     string // of a PID namespace that is shared
	v2          bool
	hostDevices []specs.LinuxDevice
	devices     []specs.LinuxDevice
	profile     *specs.LinuxSeccomp
}

// The annotation by which runc's shim knows which containers share it.
const shimGroup = "io.containerd.runc.v2.group"

// The usual masks of /proc and /sys, as every container engine sets them.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func buildSpec(in specInput) (*specs.Spec, error) {
	args, err := processArgs(in.spec, in.image)
	if err != nil {
		return nil, err
	}
	sec := in.spec.Security
	caps := capabilities(sec, in.may.caps)
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: sec.ReadOnlyRoot},
		Process: &specs.Process{
			Terminal:        in.spec.TTY,
			User:            specs.User{UID: in.who.uid, GID: in.who.gid, AdditionalGids: in.who.groups},
			Args:            args,
			Env:             processEnv(in),
			Cwd:             or(or(in.spec.WorkingDir, in.image.config.WorkingDir), "/"),
			NoNewPrivileges: sec.NoNewPrivileges,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			OOMScoreAdj:     oomScore(in.spec.OOMScoreAdj, in.may.oomFloor),
		},
		Annotations: map[string]string{shimGroup: in.sandbox.ID},
		Linux: &specs.Linux{
			CgroupsPath: CgroupPath(in.spec, in.id),
			Namespaces:  namespacesOf(in),
			Resources:   resourcesOf(in),
			Devices:     in.devices,
			UIDMappings: mappings(in.sandbox),
			GIDMappings: mappings(in.sandbox),
		},
	}
	if err := in.kernel.confine(s.Process, sec); err != nil {
		return nil, err
	}
	s.Mounts = mountsOf(in)
	s.Linux.RootfsPropagation = rootPropagation(in.spec.Mounts)
	if sec.Privileged {
		s.Linux.Devices = append(s.Linux.Devices, in.hostDevices...)
		return s, nil
	}
	if !sec.UnmaskedProc {
		s.Linux.MaskedPaths = slices.Concat(maskedPaths, in.kernel.throttles)
		s.Linux.ReadonlyPaths = readonlyPaths
	}
	switch sec.Seccomp {
	case "", SeccompUnconfined:
	case SeccompRuntimeDefault:
		s.Linux.Seccomp = seccomp.DefaultProfile(s)
	case SeccompLocalhost:
		s.Linux.Seccomp = in.profile
	default:
		return nil, fmt.Errorf("seccomp profile %q: %w", sec.Seccomp, ErrUnsupported)
	}
	return s, nil
}

// CgroupPath is the group that a container with that id runs in.
func CgroupPath(spec ContainerSpec, id string) string {
	return filepath.Join("/", spec.CgroupParent, id)
}

// processArgs applies the API's table of command and args over entrypoint and cmd.
func processArgs(spec ContainerSpec, image imageFacts) ([]string, error) {
	command, args := spec.Command, spec.Args
	if len(command) == 0 {
		command = image.config.Entrypoint
		if len(args) == 0 {
			args = image.config.Cmd
		}
	}
	all := slices.Concat(command, args)
	if len(all) == 0 {
		return nil, fmt.Errorf("no command specified: %w", ErrUnsupported)
	}
	return all, nil
}

// processEnv is the image's environment with the pod's over it, the last value of a name winning in its first place.
func processEnv(in specInput) []string {
	base := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + in.sandbox.Hostname}
	if in.spec.TTY {
		base = append(base, "TERM=xterm")
	}
	var env []string
	at := make(map[string]int)
	for _, kv := range slices.Concat(base, in.image.config.Env, in.spec.Env) {
		name, _, _ := strings.Cut(kv, "=")
		if i, ok := at[name]; ok {
			env[i] = kv
			continue
		}
		at[name] = len(env)
		env = append(env, kv)
	}
	return env
}

// oomScore is nil where nothing is asked; never below what this process may set.
func oomScore(want *int, floor int) *int {
	if want == nil {
		return nil
	}
	score := max(*want, floor)
	return &score
}

func namespacesOf(in specInput) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if !in.sandbox.HostPID {
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: in.pidPath})
	}
	if !in.sandbox.HostIPC {
		list = append(list, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: filepath.Join(in.pinDir, pinIPC)})
	}
	if !in.sandbox.HostNetwork {
		list = append(list,
			specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: filepath.Join(in.pinDir, pinNet)},
			specs.LinuxNamespace{Type: specs.UTSNamespace, Path: filepath.Join(in.pinDir, pinUTS)})
	}
	if in.sandbox.FirstID != 0 {
		list = append(list, specs.LinuxNamespace{Type: specs.UserNamespace, Path: filepath.Join(in.pinDir, pinUser)})
	}
	if in.v2 && !in.spec.Security.Privileged {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return list
}

func resourcesOf(in specInput) *specs.LinuxResources {
	res := linuxResources(in.spec.Resources)
	if in.v2 && !in.spec.SingleOOMKill {
		if res.Unified == nil {
			res.Unified = map[string]string{}
		}
		res.Unified["memory.oom.group"] = "1"
	}
	if in.spec.Security.Privileged {
		res.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return res
	}
	res.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}} // runc adds the usual few after it
	for i, d := range in.devices {
		res.Devices = append(res.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: d.Type, Major: &in.devices[i].Major, Minor: &in.devices[i].Minor, Access: or(in.spec.Devices[i].Permissions, "rwm"),
		})
	}
	return res
}

func mountsOf(in specInput) []specs.Mount {
	sysMode, cgroupMode := "ro", "ro"
	if in.spec.Security.Privileged {
		sysMode, cgroupMode = "rw", "rw"
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sysMode}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", cgroupMode}},
		{Destination: "/dev/shm", Type: "bind", Source: shmSource(in), Options: []string{"rbind", "rprivate"}},
	}
	for _, m := range in.spec.Mounts {
		list = slices.DeleteFunc(list, func(have specs.Mount) bool { return have.Destination == filepath.Clean(m.Target) })
		list = append(list, bindMount(m))
	}
	// A parent must be mounted before what lies in it.
	slices.SortStableFunc(list, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	return list
}

func shmSource(in specInput) string {
	if in.sandbox.HostIPC {
		return "/dev/shm"
	}
	return filepath.Join(in.pinDir, pinShm)
}

func bindMount(m Mount) specs.Mount {
	mode := "rw"
	if m.ReadOnly {
		mode = "ro"
	}
	if m.ReadOnly && m.RecursiveReadOnly {
		mode = "rro"
	}
	propagation := or(m.Propagation, "private")
	if !strings.HasPrefix(propagation, "r") {
		propagation = "r" + propagation
	}
	return specs.Mount{Destination: filepath.Clean(m.Target), Type: "bind", Source: m.Source, Options: slices.Concat([]string{"rbind", propagation, mode}, m.locked)}
}

func depth(path string) int { return strings.Count(filepath.Clean(path), "/") }

// rootPropagation must let through what a mount asks for: runc makes the whole tree private otherwise.
func rootPropagation(mounts []Mount) string {
	result := ""
	for _, m := range mounts {
		switch strings.TrimPrefix(m.Propagation, "r") {
		case "shared":
			return "rshared"
		case "slave":
			result = "rslave"
		}
	}
	return result
}
