package main

import "fmt"

// controllerManagerPort is the usual one of its health and metrics.
const controllerManagerPort = 10257

func (c *cluster) controllerManager() daemon {
	checks, address := c.checks(controllerManagerPort, "controller-manager")
	return daemon{
		name: "controller-manager",
		path: c.program("controller-manager"),
		args: append([]string{
			"--kubeconfig=" + c.kubeconfigOf("controller-manager"),
			"--leader-elect",
			"--allocate-node-cidrs",
			"--cluster-cidr=" + joined(c.addr().pods()),
			"--service-cluster-ip-range=" + joined(c.addr().services()),
			"--load-balancer-cidr=" + joined(c.addr().balancers()),
			"--local-path-dir=" + c.volumesDir(),
			"--root-ca-file=" + c.cert(clusterCA),
			"--cluster-signing-cert-file=" + c.cert(clusterCA),
			"--cluster-signing-key-file=" + c.key(clusterCA),
			"--service-account-private-key-file=" + c.key(serviceAccount),
		}, checks...),
		listen: []string{address},
		ready:  c.answers("https://"+address+"/healthz", clusterCA, "admin"),
	}
}

// checks are the flags for where a control plane daemon serves its health and metrics: to this machine only.
func (c *cluster) checks(usual int, certificate string) (flags []string, address string) {
	port := c.addr().port(usual)
	return []string{
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + c.cert(certificate),
		"--tls-private-key-file=" + c.key(certificate),
		"--client-ca-file=" + c.cert(clusterCA),
	}, fmt.Sprintf("127.0.0.1:%d", port)
}
