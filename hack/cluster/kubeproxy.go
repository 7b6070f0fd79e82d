package main

func (c *cluster) kubeProxy(n *node) daemon {
	return daemon{
		name: n.Name + "/kube-proxy",
		path: c.program("kube-proxy"),
		node: n,
		args: []string{
			"--kubeconfig=" + c.kubeconfigOf(n.Name+"-kube-proxy"),
			"--hostname-override=" + n.Name,
			"--cluster-cidr=" + joined(c.addr().pods()),
			"--load-balancer-cidr=" + joined(c.addr().balancers()),
			"--healthz-bind-address=127.0.0.1:10256",
			"--metrics-bind-address=127.0.0.1:10249",
		},
		listen: []string{"127.0.0.1:10256", "127.0.0.1:10249"},
		ready:  c.answersInside(n, "http://127.0.0.1:10256/healthz"),
	}
}
