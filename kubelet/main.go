// Command kubelet runs the pods of one node: it follows the pods bound to it, drives containerd, joins pods to the network, and tells the API how
// pods and node are.
package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"pilothouse.dev/kubelet/access"
	"pilothouse.dev/kubelet/certificates"
	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/cpus"
	"pilothouse.dev/kubelet/credentials"
	"pilothouse.dev/kubelet/csi"
	"pilothouse.dev/kubelet/devices"
	"pilothouse.dev/kubelet/eviction"
	"pilothouse.dev/kubelet/hostports"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/localvolumes"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/mirror"
	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/kubelet/node"
	"pilothouse.dev/kubelet/objects"
	"pilothouse.dev/kubelet/plugins"
	"pilothouse.dev/kubelet/podresources"
	"pilothouse.dev/kubelet/pods"
	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/kubelet/server"
	"pilothouse.dev/kubelet/shutdown"
	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/kubelet/stats"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/streaming"
	"pilothouse.dev/kubelet/tokens"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/daemon"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/pki"
)

func main() {
	var cfg Config
	daemon.Main(daemon.Spec{Name: "kubelet", Usage: "runs the pods of one node", Flags: cfg.flags(), Run: func(ctx context.Context, log *zap.Logger) error {
		return run(ctx, cfg, log)
	}})
}

// run is the whole daemon: from containerd upwards, then all parts at once.
func run(ctx context.Context, cfg Config, log *zap.Logger) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	cfg.guard(log)
	rest, err := certificates.Open(ctx, cfg.certificates(), log)
	if err != nil {
		return err
	}
	api, err := client.New(client.Patient(rest))
	if err != nil {
		return err
	}
	openLog := func(path string) (containers.Sink, error) { return logs.OpenWriter(path, cfg.logs()) }
	rt := containers.New(cfg.containers(), openLog, log)
	if err := rt.Open(ctx); err != nil {
		return fmt.Errorf("opening the container runtime: %w", err)
	}
	defer rt.Close()
	groups := cgroups.New(cfg.groups(), log)
	if err := groups.Open(); err != nil {
		return fmt.Errorf("making control groups: %w", err)
	}

	factory := client.Informers(api.Kube)
	nodes, services := factory.Core().V1().Nodes().Informer(), factory.Core().V1().Services()
	mine := factory.InformerFor(&corev1.Pod{}, func(kube kubernetes.Interface, _ time.Duration) cache.SharedIndexInformer {
		return source.Informer(kube, cfg.NodeName)
	})
	local := factory.InformerFor(&corev1.PersistentVolume{}, func(kube kubernetes.Interface, _ time.Duration) cache.SharedIndexInformer {
		return localvolumes.Informer(kube, cfg.NodeName)
	})
	desired := source.New(cfg.source(), mine, log)
	ports := hostports.New(log)
	net := network.New(cfg.network(ports), log)
	toks := tokens.New(api.Kube.CoreV1(), log)
	keys := credentials.New(cfg.credentials(), api.Kube.CoreV1(), toks, log)
	if err := keys.Open(); err != nil {
		return err
	}
	pics := images.New(cfg.images(keys), rt, log)
	objs := objects.New(api.Kube)
	dirs := localvolumes.NewDirs(cfg.LocalPathDir)
	prober := probes.New(rt)
	writer := status.New(api.Kube.CoreV1(), log)
	recorder := events.New(api.Kube, "kubelet", cfg.NodeName)
	pressure := eviction.New(cfg.eviction(), eviction.Parts{Groups: groups, Images: pics, Runtime: rt, Events: recorder}, log)
	drivers := csi.New(cfg.NodeName, cfg.RootDir, csi.Parts{Kube: api.Kube, Nodes: nodes, Objects: factory.Storage().V1().CSIDrivers().Informer(), Tokens: toks, Events: recorder}, log)
	devs := devices.New(filepath.Join(cfg.RootDir, "device-plugins"), log)
	devs.Open()
	plugged := plugins.New(filepath.Join(cfg.RootDir, "plugins_registry"), map[string]plugins.Handler{registration.CSIPlugin: drivers, registration.DevicePlugin: devs}, log)
	halt := shutdown.New(cfg.shutdown(), shutdown.Parts{Dial: logind, Events: recorder}, log)
	self := node.New(cfg.node(), node.Parts{Kube: api.Kube, Nodes: nodes, Runtime: rt, Images: pics, Network: net, Pressure: pressure, Events: recorder, Enforced: cfg.enforced(groups),
		Contribute: []func(*corev1.Node){node.Handlers(rt.Handlers()), drivers.Contribute, devs.Contribute, halt.Contribute}}, log)
	storage := localvolumes.Storage{Core: api.Kube.CoreV1(), Dirs: dirs, Self: asKnown(nodes, cfg.NodeName)}
	vols := volumes.New(cfg.RootDir, volumes.Parts{Look: objs, Tokens: toks, Certificates: tokens.NewCertificates(api.Kube, storage.Self, log), Storage: storage, Drivers: drivers,
		Images: pods.ImageVolumes{Images: pics, Objects: objs, Events: recorder}}, log)
	folders := localvolumes.New(localvolumes.Parts{Dirs: dirs, Informer: local, Volumes: api.Kube.CoreV1().PersistentVolumes(), Users: vols, Events: recorder}, log)
	timed, starts := stats.NewOperations(rt), stats.NewStarts(pics)
	if _, err := mine.AddEventHandler(starts); err != nil {
		return err
	}
	mirrors := mirror.New(mirror.Parts{Pods: api.Kube.CoreV1(), Writer: writer, Informer: mine, Static: desired.Static, Self: storage.Self}, log)
	alone, err := cpus.New(cfg.cpus(), rt, log)
	if err != nil {
		return err
	}
	workers := pods.New(cfg.pods(), pods.Parts{
		Sandboxes: timed, Containers: timed, Observer: timed, Images: starts, Network: net, Groups: groups, Volumes: vols, Objects: objs, Probes: prober,
		Status: mirrors, Events: recorder, Guards: []pods.Guard{pressure, halt}, Grants: []pods.Grants{alone, devs}, Updates: desired.Updates(), Node: self.Self, Services: known(services), Handler: handlers(api.Kube),
	}, log)
	numbers := stats.New(cfg.stats(), stats.Parts{Runtime: rt, Groups: groups, Pods: workers, Volumes: vols, Drivers: drivers})
	resources := prometheus.NewRegistry()
	resources.MustRegister(numbers)
	checks := &health.Checks{}
	checks.AddReady("runtime", func(ctx context.Context) error { _, err := rt.Version(ctx); return err })
	renewed, certs := prometheus.NewRegistry(), keepers(cfg, api.Kube, log) // in a registry of their own: a process may run twice in a test
	renewed.MustRegister(pki.Reloads)
	for _, k := range certs {
		renewed.MustRegister(k.Collectors()...)
	}
	renewed.MustRegister(append(keys.Collectors(), pics.Collectors()...)...)
	renewed.MustRegister(append(pressure.Collectors(), drivers.Collectors()...)...)
	rubbish := images.NewCollector(cfg.imageGC(), images.GCParts{Images: pics, Containers: rt, Events: recorder}, log)
	srv := server.New(cfg.server(), server.Parts{
		Access: access.New(cfg.access(), api.Kube.AuthenticationV1().TokenReviews(), api.Kube.AuthorizationV1().SubjectAccessReviews()),
		Pods:   workers, Runtime: rt, Streams: streaming.New(rt, cfg.StreamIdle), Stats: numbers, Checks: checks, NodeIPs: cfg.nodeIPs,
		Metrics: prometheus.Gatherers{prometheus.DefaultGatherer, renewed}, Resources: resources, Probes: prober.Gatherer(),
		Configz: func() map[string]any { return configz(&cfg) },
	}, log)
	renewed.MustRegister(slices.Concat(srv.Collectors(), timed.Collectors(), starts.Collectors(), stats.Client(), []prometheus.Collector{numbers.Facts()})...)

	g := daemon.NewGroup(log)
	for name, k := range certs {
		g.Add(name+" certificate", k.Run)
	}
	g.Add("events", recorder.Run)
	g.Add("informers", func(ctx context.Context) error {
		factory.StartWithContext(ctx)
		<-ctx.Done()
		factory.Shutdown()
		return nil
	})
	g.Add("runtime", rt.Run)
	g.Add("objects", objs.Run)
	g.Add("volumes", vols.Run)
	g.Add("csi", func(ctx context.Context) error { return drivers.Run(ctx, self.Nudge) })
	g.Add("plugins", plugged.Run)
	g.Add("image garbage", rubbish.Run)
	g.Add("local volumes", folders.Run)
	g.Add("status", writer.Run)
	g.Add("mirrors", mirrors.Run)
	g.Add("probes", prober.Run)
	g.Add("node", self.Run)
	g.Add("host ports", ports.Run)
	g.Add("network plugins", func(ctx context.Context) error { return net.Follow(ctx, self.Nudge) })
	g.Add("processors", alone.Run)
	g.Add("devices", func(ctx context.Context) error { return devs.Run(ctx, self.Nudge) })
	g.Add("pods", workers.Run)
	g.Add("pod resources", podresources.New(filepath.Join(cfg.RootDir, "pod-resources"), workers, devs, alone).Run)
	g.Add("desired pods", desired.Run)
	g.Add("eviction", func(ctx context.Context) error { return pressure.Run(ctx, workers, self.Nudge) })
	g.Add("shutdown", func(ctx context.Context) error { return halt.Run(ctx, workers, self.Nudge) })
	g.Add("https", srv.Run)
	return g.Run(ctx)
}

func logind() (shutdown.Watcher, error) { return shutdown.DialLogind("") }

// keepers are the certificates that this kubelet renews itself.
func keepers(cfg Config, kube kubernetes.Interface, log *zap.Logger) map[string]*certificates.Keeper {
	requests := kube.CertificatesV1().CertificateSigningRequests()
	out := map[string]*certificates.Keeper{}
	if cfg.Rotate {
		out["client"] = certificates.Client(cfg.certificates(), requests, log)
	}
	if cfg.RotateServing {
		out["serving"] = certificates.Serving(cfg.certificates(), requests, log)
	}
	return out
}

// known lists the services once they were read: a container must not start without their variables because the kubelet just has.
func known(services coreinformers.ServiceInformer) func() ([]*corev1.Service, error) {
	informer, lister := services.Informer(), services.Lister()
	return func() ([]*corev1.Service, error) {
		if !informer.HasSynced() {
			return nil, errors.New("services have not been read yet")
		}
		return lister.List(labels.Everything())
	}
}

// handlers asks what a RuntimeClass stands for; few pods have one, so nothing of it is kept.
func handlers(kube kubernetes.Interface) func(context.Context, string) (string, error) {
	return func(ctx context.Context, class string) (string, error) {
		found, err := kube.NodeV1().RuntimeClasses().Get(ctx, class, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return found.Handler, nil
	}
}

// asKnown is this node as the API has it, with the labels that others gave it; nil while it was not read.
func asKnown(nodes cache.SharedIndexInformer, name string) func() *corev1.Node {
	return func() *corev1.Node {
		obj, there, err := nodes.GetStore().GetByKey(name)
		if err != nil || !there {
			return nil
		}
		return obj.(*corev1.Node)
	}
}
