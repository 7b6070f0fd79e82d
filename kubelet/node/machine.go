package node

import (
	"context"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/pkg/version"
)

// mostImages is how many images a node's status has if nothing else is said; mostNames how many names of each, as in Kubernetes.
const mostImages, mostNames = 50, 5

// tellImages makes of the images on the node, the largest first, what its status has; most below 0: all.
func tellImages(list []images.Image, most int) []corev1.ContainerImage {
	if most == 0 {
		most = mostImages
	}
	if most > 0 {
		list = list[:min(len(list), most)]
	}
	told := []corev1.ContainerImage{}
	for _, img := range list {
		names := slices.Concat(img.Digests, img.Names)
		told = append(told, corev1.ContainerImage{Names: names[:min(len(names), mostNames)], SizeBytes: img.Size})
	}
	return told
}

// wish is the Node as this machine makes it: what registration and status say.
func (n *Node) wish(ctx context.Context) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Labels: map[string]string{
		corev1.LabelHostname: n.cfg.Name, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
	}, Annotations: map[string]string{
		// Every kubelet of today says so. There are clients that count on a node having some annotation (flannel does).
		"volumes.kubernetes.io/controller-managed-attach-detach": "true",
	}}}
	maps.Copy(node.Labels, n.cfg.Labels)
	node.Spec.Taints = n.cfg.Taints
	h := health{network: n.parts.Network.Ready()}
	st := &node.Status
	if have := n.api(); have != nil {
		node.UID, node.Labels, node.Spec, node.Annotations = have.UID, have.Labels, have.Spec, have.Annotations
		*st = *have.Status.DeepCopy()
	}
	st.Addresses = addresses(n.cfg.IPs, n.cfg.Name)
	st.DaemonEndpoints.KubeletEndpoint.Port = int32(n.cfg.Port)
	version := st.NodeInfo.ContainerRuntimeVersion // it stays while the runtime does not answer
	st.NodeInfo = facts()
	st.NodeInfo.ContainerRuntimeVersion = version
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if version, h.runtime = n.parts.Runtime.Version(ctx); h.runtime == nil {
		st.NodeInfo.ContainerRuntimeVersion = version
	}
	if h.runtime == nil && (n.images == nil || time.Since(n.listed) > time.Minute) {
		if list, err := n.parts.Images.List(ctx); err == nil {
			n.images, n.listed = tellImages(list, n.cfg.MaxImages), time.Now()
		} else {
			n.say(ctx, "listing images", err)
		}
	}
	st.Images = n.images
	n.capacity(st)
	if n.parts.Pressure != nil {
		h.memory, h.disk, h.pids = n.parts.Pressure.Pressure()
	}
	st.Conditions = conditions(h)
	for _, add := range n.parts.Contribute {
		add(node)
	}
	return node
}

// facts are what a machine says of itself; a file that is not there leaves its field empty.
func facts() corev1.NodeSystemInfo {
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	first := func(paths ...string) string {
		for _, path := range paths {
			if text := read(path); text != "" {
				return strings.Trim(text, "\x00")
			}
		}
		return ""
	}
	info := corev1.NodeSystemInfo{
		MachineID: first("/etc/machine-id", "/var/lib/dbus/machine-id"), BootID: read("/proc/sys/kernel/random/boot_id"),
		SystemUUID:     first("/sys/class/dmi/id/product_uuid", "/proc/device-tree/system-id", "/proc/device-tree/vm,uuid", "/etc/machine-id"),
		KubeletVersion: version.Kubernetes, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
	}
	if swap := meminfo("SwapTotal:"); swap > 0 {
		info.Swap = &corev1.NodeSwapStatus{Capacity: &swap}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		info.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	for line := range strings.Lines(read("/etc/os-release")) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			info.OSImage = strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return info
}
