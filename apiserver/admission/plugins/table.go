// Package plugins holds the admission plugins, a file each, and their order. What they must know of the cluster they declare
// as small interfaces, which lookup and allocator satisfy; main hands them over.
package plugins

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
)

// Namespaces finds a namespace; one that does not exist is an apierrors NotFound.
type Namespaces interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
}

// ServiceAccounts finds a service account; one that does not exist is an apierrors NotFound.
type ServiceAccounts interface {
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
}

// Pods finds a pod; one that does not exist is an apierrors NotFound.
type Pods interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
}

// LimitRanges finds the limit ranges of a namespace.
type LimitRanges interface {
	LimitRanges(ctx context.Context, namespace string, newest bool) ([]*corev1.LimitRange, error)
}

// PriorityClasses finds priority classes; one that does not exist is an apierrors NotFound.
type PriorityClasses interface {
	PriorityClass(ctx context.Context, name string) (*schedulingv1.PriorityClass, error)
	PriorityClasses(ctx context.Context) ([]*schedulingv1.PriorityClass, error)
}

// RuntimeClasses finds a runtime class; one that does not exist is an apierrors NotFound.
type RuntimeClasses interface {
	RuntimeClass(ctx context.Context, name string) (*nodev1.RuntimeClass, error)
}

// StorageClasses finds all storage classes.
type StorageClasses interface {
	StorageClasses(ctx context.Context) ([]*storagev1.StorageClass, error)
}

// IngressClasses finds all ingress classes.
type IngressClasses interface {
	IngressClasses(ctx context.Context) ([]*networkingv1.IngressClass, error)
}

// Access says whether somebody may do something, as the authorizer of requests does.
type Access interface {
	Allow(ctx context.Context, u *request.User, i *request.Info) (ok bool, why string)
}

// Parts are what the plugins are made of.
type Parts struct {
	Metrics         prometheus.Registerer // nil: nothing is counted
	Access          Access
	Grants          Grants
	Namespaces      Namespaces
	ServiceAccounts ServiceAccounts
	Pods            Pods
	PodLists        PodLists
	Nodes           Nodes
	Volumes         Volumes
	Kinds           Kinds
	LimitRanges     LimitRanges
	PriorityClasses PriorityClasses
	RuntimeClasses  RuntimeClasses
	StorageClasses  StorageClasses
	IngressClasses  IngressClasses
	IPs             []IPs // a range of cluster IPs a family, the preferred one first; see Ranges
	Ports           Ports
	// Audiences are whom a service account's token is for that is asked for without saying.
	Audiences []string
	// MakeNamespace makes a namespace in nobody's name; that it exists already is no error.
	MakeNamespace func(ctx context.Context, name string) error
	// How long a pod stays on a node that is not ready or unreachable, unless it says so itself.
	NotReadySeconds, UnreachableSeconds int64
	// Quotas are the resource quotas, and ChangeQuota changes what they say is used.
	Quotas      Quotas
	ChangeQuota ChangeQuota
	// LimitedResources are what ResourceQuota refuses where no quota covers it. Table fills it from the configuration file.
	LimitedResources []LimitedResource
}

// when says whether a plugin runs.
type when string

const (
	always when = "always" // it is part of the API: no flag turns it off
	on     when = "on"     // unless --disable-admission-plugins names it
	off    when = "off"    // unless --enable-admission-plugins names it
)

// line is one line of the table.
type line struct {
	when
	admission.Plugin
}

// table is every plugin in the order in which they run, whatever the flags say: that of
// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/, with our own where they belong. NodeRestriction is
// on, other than there: a cluster whose kubelets may do anything is not safe.
func table(p Parts) []line {
	return []line{
		{off, alwaysAdmit{}},
		{off, &namespaceAutoProvision{p.Namespaces, p.MakeNamespace}},
		{on, &namespaceLifecycle{p.Namespaces}},
		{off, &namespaceExists{p.Namespaces}},
		{off, limitAntiAffinity{}},
		{on, &limitRanger{p.LimitRanges}},
		{on, &serviceAccount{p.ServiceAccounts}},
		{on, &nodeRestriction{p.Pods, p.Nodes, p.ServiceAccounts, p.Volumes, p.Access, p.Audiences}},
		{on, taintNewNodes{}},
		{off, alwaysPullImages{}},
		{on, &podSecurity{namespaces: p.Namespaces, pods: p.PodLists, counts: newPodSecurityCounts(p.Metrics)}},
		{off, &podNodeSelector{namespaces: p.Namespaces}},
		{on, &priority{p.PriorityClasses}},
		{on, &tolerateForAWhile{p.NotReadySeconds, p.UnreachableSeconds}},
		{off, &podTolerations{namespaces: p.Namespaces}},
		{off, &eventRateLimit{now: time.Now}},
		{off, tolerateExtended{}},
		{on, &defaultStorageClass{p.StorageClasses}},
		{on, storageProtection{}},
		{off, &ownerReferences{p.Access, p.Kinds}},
		{on, &claimResize{p.StorageClasses}},
		{on, &runtimeClass{p.RuntimeClasses}},
		{always, certificateRequest{}},
		{on, &certificateApproval{p.Access}},
		{on, &certificateSigning{p.Access}},
		{on, &clusterTrustBundleAttest{p.Access}},
		{on, certificateSubject{}},
		{on, &defaultIngressClass{p.IngressClasses}},
		{off, denyExternalIPs{}},
		{always, &rbacEscalation{p.Access, p.Grants}},
		{always, &serviceAddresses{ips: p.IPs, ports: p.Ports}},
		{on, newResourceQuota(p)}, // the last, so that nothing is charged for what others refuse
		{off, alwaysDeny{}},
	}
}
