package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"pilothouse.dev/controller-manager/csrapprove"
	"pilothouse.dev/controller-manager/csrsign"
	"pilothouse.dev/controller-manager/endpointslice"
	"pilothouse.dev/controller-manager/hpa"
	"pilothouse.dev/controller-manager/loadbalancer"
	"pilothouse.dev/controller-manager/nodeipam"
	"pilothouse.dev/controller-manager/nodelifecycle"
	"pilothouse.dev/controller-manager/serviceaccount"
	"pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/localvolume"
)

// Config is all that can be set from outside.
type Config struct {
	Graph        bool
	Kubeconfig   string
	LeaderElect  bool
	OwnAccounts  bool
	Controllers  cli.StringSlice
	BindAddress  string
	SecurePort   int
	CertFile     string
	KeyFile      string
	ClientCAFile string

	RootCAFile            string
	ServiceAccountKeyFile string
	ServiceAccountSigner  *serviceaccount.Signer // made by check; nil: tokens kept in secrets are not made
	ServiceRange          string

	AllocateNodeCIDRs bool
	ClusterCIDR       string
	NodeIPAM          nodeipam.Config // completed by check

	LocalPathDir  string
	PatientDetach bool

	Signing  csrsign.Config
	Approval csrapprove.Config // completed by check

	NodeLifecycle      nodelifecycle.Config
	EvictionToleration time.Duration
	TerminatedPods     int

	JobSyncs              int
	TTLAfterFinishedSyncs int

	DeploymentSyncs  int
	ReplicaSetSyncs  int
	StatefulSetSyncs int
	CronJobSyncs     int

	ReplicationControllerSyncs int

	DaemonSetSyncs int
	EndpointSyncs  int
	EndpointsBatch time.Duration
	EndpointSlice  endpointslice.Config
	MirrorSyncs    int

	MirroredPerSubset int
	LoadBalancerCIDR  string
	LoadBalancers     loadbalancer.Pool // made by check

	NamespaceSyncs int
	GCSyncs        int

	ServiceAccountTokenSyncs int
	EphemeralVolumeSyncs     int
	QuotaSyncs               int
	QuotaPeriod              time.Duration

	LegacyTokenPeriod time.Duration

	HPASyncs int
	HPA      hpa.Config
}

func flags(c *Config) []cli.Flag {
	number := func(name string, value int, usage string, to *int) cli.Flag {
		return &cli.IntFlag{Name: name, Value: value, Usage: usage, Destination: to}
	}
	file := func(name, usage string, to *string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Destination: to}
	}
	return []cli.Flag{
		&cli.StringFlag{Name: "kubeconfig", Usage: "the `FILE` that says where the API server is and who we are", Destination: &c.Kubeconfig},
		&cli.BoolFlag{Name: "graph", Usage: "print who wakes whom, and end", Destination: &c.Graph},
		&cli.BoolFlag{Name: "leader-elect", Value: true, Usage: "work only while holding the lease kube-system/kube-controller-manager", Destination: &c.LeaderElect},
		&cli.BoolFlag{Name: "use-service-account-credentials", Value: true, Usage: "each controller writes as a service account of its own, with the rights of its role", Destination: &c.OwnAccounts},
		&cli.StringSliceFlag{Name: "controllers", Value: cli.NewStringSlice("*"), Usage: "which controllers run: * for all, `NAME` for one, -NAME for all but one", Destination: &c.Controllers},
		&cli.StringFlag{Name: "bind-address", Value: "0.0.0.0", Usage: "serve health, metrics and profiles on this `ADDRESS`", Destination: &c.BindAddress},
		number("secure-port", 10257, "serve them on this `PORT`; 0: nowhere", &c.SecurePort),
		&cli.StringFlag{Name: "tls-cert-file", Usage: "the serving certificate; without it only loopback is served, in plain text", Destination: &c.CertFile},
		&cli.StringFlag{Name: "tls-private-key-file", Usage: "its key", Destination: &c.KeyFile},
		&cli.StringFlag{Name: "client-ca-file", Usage: "the authority whose clients may read metrics and profiles", Destination: &c.ClientCAFile},

		&cli.StringFlag{Name: "root-ca-file", Usage: "the authority that pods trust the API server by, given to every namespace as kube-root-ca.crt; empty: none is given", Destination: &c.RootCAFile},
		&cli.StringFlag{Name: "service-account-private-key-file", Usage: "the key that signs the tokens of secrets of the type kubernetes.io/service-account-token; empty: they are not filled", Destination: &c.ServiceAccountKeyFile},
		&cli.StringFlag{Name: "service-cluster-ip-range", Usage: "the services' `RANGE`, or two with a comma between, which no node's pods may overlap", Destination: &c.ServiceRange},

		&cli.StringFlag{Name: "load-balancer-cidr", Usage: "the `RANGES`, with commas between, of which services of type LoadBalancer get addresses; empty: none do", Destination: &c.LoadBalancerCIDR},
		&cli.BoolFlag{Name: "allocate-node-cidrs", Usage: "give every node a part of --cluster-cidr", Destination: &c.AllocateNodeCIDRs},
		&cli.StringFlag{Name: "cluster-cidr", Usage: "the pods' `RANGE`, or two with a comma between: IPv4 and IPv6", Destination: &c.ClusterCIDR},
		number("node-cidr-mask-size", 0, "prefix length of a node's part in a cluster of one family; 0: 24 of IPv4, 64 of IPv6", &c.NodeIPAM.Size),
		number("node-cidr-mask-size-ipv4", 0, "prefix length of a node's IPv4 part in a cluster of both; 0: 24", &c.NodeIPAM.Size4),
		number("node-cidr-mask-size-ipv6", 0, "prefix length of a node's IPv6 part in a cluster of both; 0: 64", &c.NodeIPAM.Size6),

		&cli.BoolFlag{Name: "disable-force-detach-on-timeout", Usage: "never detach a volume only because a node that is not healthy has not unmounted it for six minutes; the taint node.kubernetes.io/out-of-service still has that done", Destination: &c.PatientDetach},
		&cli.StringFlag{Name: "local-path-dir", Value: localvolume.DefaultDir, Usage: "the nodes' `FOLDER` of the volumes that the provisioner pilothouse.dev/local-path makes; kubelets have the same flag", Destination: &c.LocalPathDir},

		file("cluster-signing-cert-file", "the authority that signs approved certificate requests, for every signer; without one nothing is signed", &c.Signing.All.Cert),
		file("cluster-signing-key-file", "its key", &c.Signing.All.Key),
		file("cluster-signing-kubelet-serving-cert-file", "the authority of the signer kubernetes.io/kubelet-serving, instead of one for all", &c.Signing.KubeletServing.Cert),
		file("cluster-signing-kubelet-serving-key-file", "its key", &c.Signing.KubeletServing.Key),
		file("cluster-signing-kubelet-client-cert-file", "the authority of the signer kubernetes.io/kube-apiserver-client-kubelet", &c.Signing.KubeletClient.Cert),
		file("cluster-signing-kubelet-client-key-file", "its key", &c.Signing.KubeletClient.Key),
		file("cluster-signing-kube-apiserver-client-cert-file", "the authority of the signer kubernetes.io/kube-apiserver-client", &c.Signing.APIServerClient.Cert),
		file("cluster-signing-kube-apiserver-client-key-file", "its key", &c.Signing.APIServerClient.Key),
		file("cluster-signing-legacy-unknown-cert-file", "the authority of the signer kubernetes.io/legacy-unknown", &c.Signing.LegacyUnknown.Cert),
		file("cluster-signing-legacy-unknown-key-file", "its key", &c.Signing.LegacyUnknown.Key),
		&cli.DurationFlag{Name: "cluster-signing-duration", Value: 365 * 24 * time.Hour, Usage: "how long signed certificates live at most", Destination: &c.Signing.Duration},
		&cli.BoolFlag{Name: "kubelet-serving-approval", Value: true, Usage: "approve kubelets' requests for serving certificates of nothing but their own node; else people do", Destination: &c.Approval.Serving},

		&cli.DurationFlag{Name: "node-monitor-grace-period", Usage: "a node silent for so long is not ready; 0: for as long as its Lease says", Destination: &c.NodeLifecycle.Grace},
		&cli.DurationFlag{Name: "node-startup-grace-period", Value: time.Minute, Usage: "how long a node that has never reported may take", Destination: &c.NodeLifecycle.Startup},
		&cli.Float64Flag{Name: "node-eviction-rate", Value: 1, Usage: "nodes a second of a zone whose pods may be given up", Destination: &c.NodeLifecycle.Rates.Usual},
		&cli.Float64Flag{Name: "secondary-node-eviction-rate", Value: 0.1, Usage: "and while much of a large zone is not ready", Destination: &c.NodeLifecycle.Rates.Secondary},
		number("large-cluster-size-threshold", 50, "a zone of more nodes is large; while much of a small one is not ready, nothing is given up", &c.NodeLifecycle.Rates.Large),
		&cli.Float64Flag{Name: "unhealthy-zone-threshold", Value: 0.55, Usage: "the part of a zone, and three nodes at least, that is much of it", Destination: &c.NodeLifecycle.Rates.Unwell},
		&cli.DurationFlag{Name: "default-eviction-toleration", Value: 30 * time.Second, Usage: "how long pods that do not say so themselves stay on a node that is not ready or unreachable", Destination: &c.EvictionToleration},
		number("terminated-pod-gc-threshold", 12500, "how many finished pods are kept", &c.TerminatedPods),

		number("concurrent-deployment-syncs", 5, "workers of the deployment controller", &c.DeploymentSyncs),
		number("concurrent-replicaset-syncs", 5, "workers of the replicaset controller", &c.ReplicaSetSyncs),
		number("concurrent-statefulset-syncs", 5, "workers of the statefulset controller", &c.StatefulSetSyncs),
		number("concurrent-rc-syncs", 5, "workers of the replicationcontroller controller", &c.ReplicationControllerSyncs),
		number("concurrent-daemonset-syncs", 2, "workers of the daemonset controller", &c.DaemonSetSyncs),
		number("concurrent-cron-job-syncs", 5, "workers of the cronjob controller", &c.CronJobSyncs),
		number("concurrent-job-syncs", 5, "workers of the job controller", &c.JobSyncs),
		number("concurrent-ttl-after-finished-syncs", 5, "workers of the controller that deletes finished jobs when their time has run out", &c.TTLAfterFinishedSyncs),
		number("concurrent-service-endpoint-syncs", 5, "workers of the endpointslice and endpoints controllers each", &c.EndpointSyncs),
		number("max-endpoints-per-slice", 100, "how many endpoints one EndpointSlice holds at most, 1 to 1000", &c.EndpointSlice.PerSlice),
		&cli.DurationFlag{Name: "endpointslice-updates-batch-period", Usage: "how long changes of pods are gathered before EndpointSlices are written; 0: they are written at once", Destination: &c.EndpointSlice.Batch},
		&cli.DurationFlag{Name: "endpoint-updates-batch-period", Usage: "how long changes of pods are gathered before Endpoints are written; 0: they are written at once", Destination: &c.EndpointsBatch},
		number("mirroring-concurrent-service-endpoint-syncs", 5, "workers of the endpointslicemirroring controller", &c.MirrorSyncs),
		number("mirroring-max-endpoints-per-subset", 1000, "how many addresses of one subset of Endpoints are mirrored, 1 to 1000", &c.MirroredPerSubset),
		number("concurrent-namespace-syncs", 10, "workers of the namespace controller", &c.NamespaceSyncs),
		number("concurrent-serviceaccount-token-syncs", 5, "workers of the controller of tokens kept in secrets", &c.ServiceAccountTokenSyncs),
		number("concurrent-ephemeralvolume-syncs", 5, "workers of the ephemeral-volume controller", &c.EphemeralVolumeSyncs),
		&cli.DurationFlag{Name: "legacy-service-account-token-clean-up-period", Value: 365 * 24 * time.Hour, Usage: "tokens kept in secrets, made for every account once, that nobody used for so long are made invalid, and after as long again deleted", Destination: &c.LegacyTokenPeriod},
		number("concurrent-gc-syncs", 20, "workers of the garbage collector", &c.GCSyncs),
		number("concurrent-horizontal-pod-autoscaler-syncs", 5, "workers of the horizontalpodautoscaling controller", &c.HPASyncs),
		&cli.DurationFlag{Name: "horizontal-pod-autoscaler-sync-period", Value: 15 * time.Second, Usage: "how often each autoscaler asks for its metrics", Destination: &c.HPA.Period},
		&cli.DurationFlag{Name: "horizontal-pod-autoscaler-downscale-stabilization", Value: 5 * time.Minute, Usage: "for how long the highest advice counts when an autoscaler that does not say itself scales down", Destination: &c.HPA.Downscale},
		&cli.Float64Flag{Name: "horizontal-pod-autoscaler-tolerance", Value: 0.1, Usage: "by which share a metric may miss its target without anything being done", Destination: &c.HPA.Tolerance},
		&cli.DurationFlag{Name: "horizontal-pod-autoscaler-cpu-initialization-period", Value: 5 * time.Minute, Usage: "how long after its start a pod's CPU counts only while the pod is ready", Destination: &c.HPA.CPUInit},
		&cli.DurationFlag{Name: "horizontal-pod-autoscaler-initial-readiness-delay", Value: 30 * time.Second, Usage: "a pod that is not ready since so soon after its start counts as never having been ready", Destination: &c.HPA.ReadyWait},
		number("concurrent-resource-quota-syncs", 5, "workers of the resourcequota controller", &c.QuotaSyncs),
		&cli.DurationFlag{Name: "resource-quota-sync-period", Value: 5 * time.Minute, Usage: "how often what every quota says is used is reckoned anew", Destination: &c.QuotaPeriod},
	}
}

// check completes the configuration, or says what is wrong with it.
func (c *Config) check() (err error) {
	if c.NodeIPAM.Cluster, err = nodeipam.Ranges("cluster-cidr", c.ClusterCIDR); err != nil {
		return err
	}
	if c.NodeIPAM.Services, err = nodeipam.Ranges("service-cluster-ip-range", c.ServiceRange); err != nil {
		return err
	}
	c.Approval.Reserved = c.NodeIPAM.Services
	if !filepath.IsAbs(c.LocalPathDir) {
		return fmt.Errorf("--local-path-dir %q is not absolute", c.LocalPathDir)
	}
	if n := c.MirroredPerSubset; n < 1 || n > 1000 {
		return fmt.Errorf("--mirroring-max-endpoints-per-subset: %d is not within 1 and 1000", n)
	}
	if c.LoadBalancers, err = loadbalancer.ParsePool(c.LoadBalancerCIDR); err != nil {
		return err
	}
	if err := errors.Join(c.LoadBalancers.Apart("service-cluster-ip-range", c.NodeIPAM.Services), c.LoadBalancers.Apart("cluster-cidr", c.NodeIPAM.Cluster)); err != nil {
		return err
	}
	if n := c.EndpointSlice.PerSlice; n < 1 || n > 1000 {
		return fmt.Errorf("--max-endpoints-per-slice: %d is not within 1 and 1000", n)
	}
	if c.ServiceAccountKeyFile != "" {
		if c.ServiceAccountSigner, err = serviceaccount.ReadSigner(c.ServiceAccountKeyFile); err != nil {
			return fmt.Errorf("--service-account-private-key-file: %w", err)
		}
	}
	if c.HPA.Period <= 0 {
		return fmt.Errorf("--horizontal-pod-autoscaler-sync-period: %v is not greater than 0", c.HPA.Period)
	}
	if err := c.Signing.Check(); err != nil {
		return err
	}
	if c.AllocateNodeCIDRs {
		return c.NodeIPAM.Complete()
	}
	return nil
}

// health is the configuration of the server beside the work.
func (c Config) health() health.Config {
	h := health.Config{CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCAFile: c.ClientCAFile}
	if c.SecurePort != 0 {
		h.Address = net.JoinHostPort(c.BindAddress, strconv.Itoa(c.SecurePort))
	}
	return h
}
