// Package bootstrap makes what a new cluster must contain, through an ordinary client, and keeps it: the system namespaces,
// the `kubernetes` service with this server's address behind it, and the objects listed in objects.go. It runs again every so often, so that what is deleted
// by mistake comes back, and so that it succeeds once the storage answers. The default roles and bindings (access.go) it brings up
// to date once, at the start: what an administrator takes from them afterwards stays away until the next one.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryv1client "k8s.io/client-go/kubernetes/typed/discovery/v1"
	rbacv1client "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/client-go/rest"

	"pilothouse.dev/apiserver/bootstrap/policy"
)

// Config says what this server is called from inside the cluster.
type Config struct {
	ServiceIP net.IP // of the kubernetes service
	Advertise net.IP // where pods reach this server; nil: no endpoint is published
	Port      int
	// ServiceCIDRs are the ranges of services' addresses; none: the object that tells them is not made.
	ServiceCIDRs []string
	// Authentication is what servers behind this one are told of how callers prove who they are; nil: nothing.
	Authentication func() (map[string]string, error)
	Every          time.Duration // between repairs; 0: 10 s
}

// Bootstrap repairs. Run it once.
type Bootstrap struct {
	cfg Config
	// Of the groups in need alone: the clientset of all groups would be a sixth of the program, and of its memory.
	core      corev1client.CoreV1Interface
	discovery discoveryv1client.DiscoveryV1Interface
	rbac      rbacv1client.RbacV1Interface
	raw       rest.Interface
	objects   []object
	log       *zap.Logger

	policy    *policy.Policy // owned by Run; nil once it is there
	rolesDone atomic.Bool
}

// New makes it; nothing is asked yet.
func New(cfg Config, self *rest.Config, log *zap.Logger) (*Bootstrap, error) {
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	core, err := corev1client.NewForConfig(self)
	if err != nil {
		return nil, fmt.Errorf("making the loopback client: %w", err)
	}
	discovery, err := discoveryv1client.NewForConfig(self)
	if err != nil {
		return nil, fmt.Errorf("making the loopback client: %w", err)
	}
	quick := rest.CopyConfig(self) // there are many of them, and the server is not ready before
	quick.ContentType, quick.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	rbac, err := rbacv1client.NewForConfig(quick)
	if err != nil {
		return nil, fmt.Errorf("making the loopback client: %w", err)
	}
	access, err := policy.Load()
	if err != nil {
		return nil, fmt.Errorf("reading the default roles: %w", err)
	}
	return &Bootstrap{
		cfg: cfg, core: core, discovery: discovery, rbac: rbac, raw: core.RESTClient(),
		objects: cfg.objects(), log: log.Named("bootstrap"), policy: access,
	}, nil
}

// Namespaces every cluster has.
var Namespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// Run repairs at once, soon again while it fails, and then every so often.
func (b *Bootstrap) Run(ctx context.Context) error {
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = b.cfg.Every
		if err := b.once(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("the cluster's own objects are not all there yet", zap.Error(err))
			wait = 500 * time.Millisecond
			if b.policy != nil { // the server is not ready before
				wait = 50 * time.Millisecond
			}
		}
	}
}

func (b *Bootstrap) once(ctx context.Context) error {
	var todo []write
	for _, name := range Namespaces {
		todo = append(todo, write{"making namespace " + name, func(ctx context.Context) error { return b.namespace(ctx, name) }})
	}
	if err := together(ctx, todo); err != nil {
		return err
	}
	if b.policy != nil {
		if err := b.access(ctx); err != nil {
			return err
		}
	}
	if err := b.service(ctx); err != nil {
		return fmt.Errorf("making the kubernetes service: %w", err)
	}
	// That the one fails should not keep away the other.
	return errors.Join(b.publish(ctx), b.contents(ctx), b.authentication(ctx), b.tracking(ctx))
}

func (b *Bootstrap) namespace(ctx context.Context, name string) error {
	_, err := b.core.Namespaces().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err = b.core.Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	}
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (b *Bootstrap) publish(ctx context.Context) error {
	if b.cfg.Advertise == nil {
		return nil
	}
	if err := b.endpoints(ctx); err != nil {
		return fmt.Errorf("publishing our address: %w", err)
	}
	return nil
}

const serviceName = "kubernetes"

func (b *Bootstrap) service(ctx context.Context) error {
	services := b.core.Services(metav1.NamespaceDefault)
	_, err := services.Get(ctx, serviceName, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	single := corev1.IPFamilyPolicySingleStack
	_, err = services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName, Labels: labels()},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: b.cfg.ServiceIP.String(), ClusterIPs: []string{b.cfg.ServiceIP.String()},
			IPFamilyPolicy: &single, SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(int32(b.cfg.Port))}},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func labels() map[string]string {
	return map[string]string{"component": "apiserver", "provider": "kubernetes"}
}

// endpoints makes sure that our address stands behind the service, in both forms.
func (b *Bootstrap) endpoints(ctx context.Context) error {
	name, ready, port, proto := "https", true, int32(b.cfg.Port), corev1.ProtocolTCP
	family := discoveryv1.AddressTypeIPv4
	if b.cfg.Advertise.To4() == nil {
		family = discoveryv1.AddressTypeIPv6
	}
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: serviceName}},
		AddressType: family,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{b.cfg.Advertise.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
	}
	slices := b.discovery.EndpointSlices(metav1.NamespaceDefault)
	have, err := slices.Get(ctx, serviceName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = slices.Create(ctx, want, metav1.CreateOptions{})
	case err == nil && !(equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(have.Ports, want.Ports)):
		have.Endpoints, have.Ports = want.Endpoints, want.Ports
		_, err = slices.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	//lint:ignore SA1019 deprecated, and still served and read by many
	wantEP := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}},
		//lint:ignore SA1019 as above
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: b.cfg.Advertise.String()}},
			Ports:     []corev1.EndpointPort{{Name: name, Port: port, Protocol: proto}},
		}},
	}
	eps := b.core.Endpoints(metav1.NamespaceDefault)
	haveEP, err := eps.Get(ctx, serviceName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = eps.Create(ctx, wantEP, metav1.CreateOptions{})
	case err == nil && !equality.Semantic.DeepEqual(haveEP.Subsets, wantEP.Subsets):
		haveEP.Subsets = wantEP.Subsets
		_, err = eps.Update(ctx, haveEP, metav1.UpdateOptions{})
	}
	return err
}
