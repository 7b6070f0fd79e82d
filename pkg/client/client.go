// Package client turns a kubeconfig into the clients and informers of a daemon: protobuf on the wire, one informer factory a
// process, certificates read from files again when they change. It is the only way daemons reach the API.
package client

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"pilothouse.dev/pkg/version"
)

// Load reads a kubeconfig file. Requests are not throttled on this side: fairness is the API server's to keep.
func Load(kubeconfig, component string) (*rest.Config, error) {
	if kubeconfig == "" {
		return nil, fmt.Errorf("--kubeconfig is empty: name the file that says where the API server is and who we are")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig %s: %w", kubeconfig, err)
	}
	return Tune(cfg, component), nil
}

// Tune returns a copy of cfg as a daemon uses it.
func Tune(cfg *rest.Config, component string) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = component + "/pilothouse-" + version.Kubernetes
	cfg.QPS, cfg.Burst = -1, -1
	cfg.WarningHandler = rest.NoWarnings{} // they are for people: a daemon's requests are what they are
	cfg.DisableCompression = true          // the network between daemons is cheaper than both processors' time
	return cfg
}

// Clients are a daemon's hands on the API. Safe for concurrent use.
type Clients struct {
	REST     *rest.Config         // as it was given
	Kube     kubernetes.Interface // protobuf
	Dynamic  dynamic.Interface    // JSON, any kind
	Metadata metadata.Interface   // only object metadata, any kind
}

// New makes clients; nothing is dialled yet. Certificates that are files are read again when they change, and no connection is cut.
func New(given *rest.Config) (*Clients, error) {
	cfg, err := renewing(given)
	if err != nil {
		return nil, err
	}
	proto := rest.CopyConfig(cfg)
	proto.ContentType = runtime.ContentTypeProtobuf
	proto.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	kube, err := kubernetes.NewForConfig(proto)
	if err != nil {
		return nil, fmt.Errorf("making the client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making the dynamic client: %w", err)
	}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making the metadata client: %w", err)
	}
	return &Clients{REST: given, Kube: kube, Dynamic: dyn, Metadata: meta}, nil
}

// Informers makes the process's one factory. It never resyncs: watches are complete, and what must be repaired with time says
// so itself. Managed fields are dropped from what is kept in memory.
func Informers(kube kubernetes.Interface, opts ...informers.SharedInformerOption) informers.SharedInformerFactory {
	opts = append([]informers.SharedInformerOption{informers.WithTransform(dropManagedFields)}, opts...)
	return informers.NewSharedInformerFactoryWithOptions(kube, 0*time.Second, opts...)
}

func dropManagedFields(obj any) (any, error) {
	if m, ok := obj.(interface{ GetObjectMeta() metav1.Object }); ok {
		m.GetObjectMeta().SetManagedFields(nil)
	}
	return obj, nil
}
