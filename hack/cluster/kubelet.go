package main

import (
	"fmt"
	"net/netip"
)

// kubeletPort is where the API server finds a kubelet.
const kubeletPort = 10250

// cniPlugins is where Debian's package of CNI plugins puts them.
const cniPlugins = "/usr/lib/cni"

// evictionHard lets a node work on a machine whose disk is rather full of other things.
const evictionHard = "memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<1%,imagefs.available<1Gi,imagefs.inodesFree<1%"

func (c *cluster) kubelet(n *node) daemon {
	address := netip.AddrPortFrom(c.nodeIP(n), kubeletPort).String()
	return daemon{
		name: n.Name + "/kubelet",
		path: c.program("kubelet"),
		node: n,
		args: []string{
			"--kubeconfig=" + c.kubeconfigOf(n.Name+"-kubelet"), // which it writes itself
			"--bootstrap-kubeconfig=" + c.bootstrapKubeconfig(),
			"--rotate-certificates", "--rotate-server-certificates",
			"--hostname-override=" + n.Name,
			"--node-ip=" + joined(c.nodeIPs(n)),
			"--address=" + c.nodeIP(n).String(),
			fmt.Sprintf("--port=%d", kubeletPort),
			"--root-dir=" + c.path("nodes", n.Name, "kubelet"),
			"--local-path-dir=" + c.volumesDir(),
			"--netns-dir=" + c.nodeRun(n, "pods"),
			"--pod-manifest-path=" + c.path("nodes", n.Name, "manifests"),
			"--eviction-hard=" + evictionHard,
			"--image-gc-high-threshold=100", // as little does it say of this machine how full its disk is
			"--container-runtime-endpoint=unix://" + c.containerdSocket(n),
			"--cgroup-root=" + c.nodeCgroup(n),
			"--cni-conf-dir=" + c.path("nodes", n.Name, "cni", "net.d"),
			"--cni-bin-dir=" + c.path("nodes", n.Name, "cni", "bin") + "," + cniPlugins,
			"--cluster-dns=" + c.addr().dns().String(),
			"--cluster-domain=cluster.local",
			"--resolv-conf=" + resolvConf("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"),
			"--client-ca-file=" + c.cert(clusterCA),
			"--registry-plain-http=" + c.registryAddress(),
			"--registry-hosts-dir=" + c.registryHosts(),
		},
		listen: []string{address},
		ready:  c.answers("https://"+address+"/healthz", clusterCA, "apiserver-kubelet-client"),
	}
}
