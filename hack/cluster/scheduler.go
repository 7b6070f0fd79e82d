package main

// schedulerPort is the usual one of its health and metrics.
const schedulerPort = 10259

func (c *cluster) scheduler() daemon {
	checks, address := c.checks(schedulerPort, "scheduler")
	return daemon{
		name: "scheduler",
		path: c.program("scheduler"),
		args: append([]string{
			"--kubeconfig=" + c.kubeconfigOf("scheduler"),
			"--leader-elect",
		}, checks...),
		listen: []string{address},
		ready:  c.answers("https://"+address+"/healthz", clusterCA, "admin"),
	}
}
