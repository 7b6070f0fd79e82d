package main

import "fmt"

// The usual port of etcd for clients, and that for its peers, which a single member needs all the same.
const (
	etcdPort     = 2379
	etcdPeerPort = 2380
)

func (c *cluster) etcdURL(usual int) string {
	return fmt.Sprintf("https://127.0.0.1:%d", c.addr().port(usual))
}

// etcd is the store: one member, both sides of every connection proven by certificate.
func (c *cluster) etcd() daemon {
	client, peer := c.etcdURL(etcdPort), c.etcdURL(etcdPeerPort)
	return daemon{
		name: "etcd",
		path: c.program("etcd"),
		args: []string{
			"--name=" + c.name,
			"--data-dir=" + c.path("etcd"),
			"--listen-client-urls=" + client,
			"--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer,
			"--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=" + c.name + "=" + peer,
			"--initial-cluster-token=" + c.name,
			"--client-cert-auth", "--trusted-ca-file=" + c.cert(etcdCA),
			"--cert-file=" + c.cert("etcd-server"), "--key-file=" + c.key("etcd-server"),
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + c.cert(etcdCA),
			"--peer-cert-file=" + c.cert("etcd-server"), "--peer-key-file=" + c.key("etcd-server"),
			// A lone member need not listen for others before it elects itself: it is ready at once instead of after a second.
			"--heartbeat-interval=10", "--election-timeout=100",
			"--log-level=warn",
		},
		listen: []string{client[len("https://"):], peer[len("https://"):]},
		ready:  c.answers(client+"/health", etcdCA, "apiserver-etcd-client"),
	}
}
