package node

import (
	"context"
	"maps"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/version"
)

// mostImages is how many images a node's status names.
const mostImages = 50

// wish is the Node as this machine makes it: what registration and status say.
func (n *Node) wish(ctx context.Context) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Labels: map[string]string{
		corev1.LabelHostname: n.cfg.Name, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
	}}}
	maps.Copy(node.Labels, n.cfg.Labels)
	node.Spec.Taints = n.cfg.Taints
	h := health{network: n.parts.Network.Ready()}
	st := &node.Status
	if have := n.api(); have != nil {
		node.UID, node.Labels, node.Spec, node.Annotations = have.UID, have.Labels, have.Spec, have.Annotations
		*st = *have.Status.DeepCopy()
	}
	st.Addresses = nil
	for _, ip := range n.cfg.IPs {
		st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.cfg.Name})
	st.DaemonEndpoints.KubeletEndpoint.Port = int32(n.cfg.Port)
	st.NodeInfo = facts()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st.NodeInfo.ContainerRuntimeVersion, h.runtime = n.parts.Runtime.Version(ctx)
	if h.runtime == nil && (n.images == nil || time.Since(n.listed) > time.Minute) {
		if list, err := n.parts.Images.List(ctx); err == nil {
			n.images, n.listed = []corev1.ContainerImage{}, time.Now()
			for _, img := range list[:min(len(list), mostImages)] {
				n.images = append(n.images, corev1.ContainerImage{Names: append(append([]string{}, img.Digests...), img.Names...), SizeBytes: img.Size})
			}
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
