package main

import (
	"fmt"
	"net/netip"
)

// apiserverPort is the usual one.
const apiserverPort = 6443

// apiserver listens on the bridge: this machine and every node reach it there, the outside doesn't.
func (c *cluster) apiserver() daemon {
	a := c.addr()
	return daemon{
		name: "apiserver",
		path: c.program("apiserver"),
		args: []string{
			"--etcd-servers=" + c.etcdURL(etcdPort),
			"--etcd-cafile=" + c.cert(etcdCA),
			"--etcd-certfile=" + c.cert("apiserver-etcd-client"),
			"--etcd-keyfile=" + c.key("apiserver-etcd-client"),
			"--bind-address=" + a.bridge().String(),
			"--advertise-address=" + a.bridge().String(),
			fmt.Sprintf("--secure-port=%d", a.port(apiserverPort)),
			"--tls-cert-file=" + c.cert("apiserver"),
			"--tls-private-key-file=" + c.key("apiserver"),
			"--client-ca-file=" + c.cert(clusterCA),
			"--enable-bootstrap-token-auth",
			"--encryption-provider-config=" + c.encryptionFile(),
			"--kubelet-certificate-authority=" + c.cert(clusterCA),
			"--kubelet-client-certificate=" + c.cert("apiserver-kubelet-client"),
			"--kubelet-client-key=" + c.key("apiserver-kubelet-client"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-signing-key-file=" + c.key(serviceAccount),
			"--service-account-key-file=" + c.cert(serviceAccount),
			"--service-cluster-ip-range=" + joined(a.services()),
			"--service-node-port-range=30000-32767",
		},
		listen: []string{netip.AddrPortFrom(a.bridge(), uint16(a.port(apiserverPort))).String()},
		ready:  c.answers(c.server()+"/readyz", clusterCA, "admin"),
	}
}
