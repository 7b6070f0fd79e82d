package main

import (
	"net"
	"strconv"

	"github.com/urfave/cli/v2"

	"pilothouse.dev/pkg/health"
)

// Config is all that can be set from outside.
type Config struct {
	Kubeconfig    string
	SchedulerName string
	LeaderElect   bool
	BindAddress   string
	SecurePort    int
	CertFile      string
	KeyFile       string
	ClientCAFile  string
}

func flags(c *Config) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kubeconfig", Usage: "the `FILE` that says where the API server is and who we are", Required: true, Destination: &c.Kubeconfig},
		&cli.StringFlag{Name: "scheduler-name", Value: "default-scheduler", Usage: "schedule the pods whose spec.schedulerName is this `NAME`", Destination: &c.SchedulerName},
		&cli.BoolFlag{Name: "leader-elect", Value: true, Usage: "work only while holding the lease kube-system/kube-scheduler", Destination: &c.LeaderElect},
		&cli.StringFlag{Name: "bind-address", Value: "0.0.0.0", Usage: "serve health, metrics and profiles on this `ADDRESS`", Destination: &c.BindAddress},
		&cli.IntFlag{Name: "secure-port", Value: 10259, Usage: "serve them on this `PORT`; 0: nowhere", Destination: &c.SecurePort},
		&cli.StringFlag{Name: "tls-cert-file", Usage: "the serving certificate; without it only loopback is served, in plain text", Destination: &c.CertFile},
		&cli.StringFlag{Name: "tls-private-key-file", Usage: "its key", Destination: &c.KeyFile},
		&cli.StringFlag{Name: "client-ca-file", Usage: "the authority whose clients may read metrics and profiles", Destination: &c.ClientCAFile},
	}
}

// health is the configuration of the server beside the work.
func (c Config) health() health.Config {
	h := health.Config{CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCAFile: c.ClientCAFile}
	if c.SecurePort != 0 {
		h.Address = net.JoinHostPort(c.BindAddress, strconv.Itoa(c.SecurePort))
	}
	return h
}
