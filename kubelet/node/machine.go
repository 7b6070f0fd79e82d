package node

import (
	"bufio"
	"context"
	"maps"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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

// capacity is what the machine has, and what of it pods may use.
func (n *Node) capacity(st *corev1.NodeStatus) {
	memory := memTotal()
	st.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memory, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(n.cfg.MaxPods), resource.DecimalSI),
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(n.cfg.Root, &fs); err == nil {
		st.Capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(fs.Blocks)*fs.Bsize, resource.BinarySI)
	}
	st.Allocatable = st.Capacity.DeepCopy()
	st.Allocatable[corev1.ResourceMemory] = *resource.NewQuantity(max(memory-n.cfg.ReservedMemory, 0), resource.BinarySI)
}

func memTotal() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) >= 2 && words[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib * 1024
		}
	}
	return 0
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
	info := corev1.NodeSystemInfo{
		MachineID: read("/etc/machine-id"), SystemUUID: read("/sys/class/dmi/id/product_uuid"), BootID: read("/proc/sys/kernel/random/boot_id"),
		KubeletVersion: version.Kubernetes, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
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
