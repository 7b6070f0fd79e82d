package plugins

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/localvolume"
)

// nodeRestriction lets a kubelet write its own node, its own lease and the pods bound to it, and get tokens and certificates for
// those pods, so that who breaks into one node does not own the others
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction). Its word comes before webhooks
// change anything: what they add is not the kubelet's.
type nodeRestriction struct {
	pods      Pods
	nodes     Nodes
	accounts  ServiceAccounts
	volumes   Volumes
	access    Access
	audiences []string // of tokens that are asked for without saying
}

// Nodes finds a node; one that does not exist is an apierrors NotFound.
type Nodes interface {
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// Volumes finds what a pod's volumes lead to; what does not exist is an apierrors NotFound.
type Volumes interface {
	PersistentVolumeClaim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	CSIDriver(ctx context.Context, name string) (*storagev1.CSIDriver, error)
}

func (*nodeRestriction) Name() string { return "NodeRestriction" }

const (
	nodesGroup = "system:nodes"
	nodePrefix = "system:node:"
)

// nodeOf is the node a user is the kubelet of.
func nodeOf(u *request.User) (name string, is bool) {
	if u == nil || !u.InGroup(nodesGroup) {
		return "", false
	}
	return strings.CutPrefix(u.Name, nodePrefix)
}

func (p *nodeRestriction) Mutate(ctx context.Context, a *admission.Attributes) error {
	node, is := nodeOf(a.User)
	if !is || a.Operation == admission.Connect {
		return nil
	}
	if node == "" {
		return forbid(a, "could not determine node from user %q", a.User.Name)
	}
	switch a.Resource.GVK.Group {
	case "":
		switch a.Resource.Plural {
		case "nodes":
			return restrictNode(a, node)
		case "pods":
			return p.restrictPod(ctx, a, node)
		case "persistentvolumeclaims":
			return restrictClaim(a, node)
		case "persistentvolumes":
			return restrictVolume(a, node)
		case "serviceaccounts":
			if a.Subresource == "token" && a.Operation == admission.Create {
				return p.restrictToken(ctx, a, node)
			}
		}
	case "coordination.k8s.io":
		if a.Resource.Plural == "leases" {
			return restrictLease(a, node)
		}
	case "storage.k8s.io":
		if a.Resource.Plural == "csinodes" && a.Name != node {
			return forbid(a, "can only access CSINode with the same name as the requesting node")
		}
	case "resource.k8s.io":
		if a.Resource.Plural == "resourceslices" {
			return restrictSlice(a, node)
		}
	case "certificates.k8s.io":
		if a.Operation != admission.Create || a.Subresource != "" {
			return nil
		}
		switch a.Resource.Plural {
		case "certificatesigningrequests":
			return restrictRequest(a, node)
		case "podcertificaterequests":
			return p.restrictPodRequest(ctx, a, node)
		}
	}
	return nil
}

// restrictNode keeps a node from making itself attractive for what is not meant for it.
func restrictNode(a *admission.Attributes, node string) error {
	if a.Name != node {
		return forbid(a, "node %q is not allowed to modify node %q", node, a.Name)
	}
	switch a.Operation {
	case admission.Delete:
		return forbid(a, "node %q is not allowed to delete its own node", node)
	case admission.Create:
		o := a.Object.(*corev1.Node)
		if configSource(o) != nil {
			return forbid(a, "node %q is not allowed to create pods with a non-nil configSource", node)
		}
		if len(o.OwnerReferences) > 0 {
			return forbid(a, "node %q is not allowed to create its node with ownerReferences", node)
		}
		if no := forbiddenLabels(o.Labels, nil); len(no) > 0 {
			return forbid(a, "node %q is not allowed to set the following labels: %s", node, strings.Join(no, ", "))
		}
	case admission.Update:
		o, old := a.Object.(*corev1.Node), a.Old.(*corev1.Node)
		if source := configSource(o); source != nil && !apiequality.Semantic.DeepEqual(source, configSource(old)) {
			return forbid(a, "node %q is not allowed to update configSource to a new non-nil configSource", node)
		}
		if !slices.EqualFunc(o.Spec.Taints, old.Spec.Taints, sameTaint) {
			return forbid(a, "node %q is not allowed to modify taints", node)
		}
		// Garbage collection would delete it for the node.
		if !apiequality.Semantic.DeepEqual(o.OwnerReferences, old.OwnerReferences) {
			return forbid(a, "node %q is not allowed to modify ownerReferences", node)
		}
		if no := forbiddenLabels(o.Labels, old.Labels); len(no) > 0 {
			return forbid(a, "is not allowed to modify labels: %s", strings.Join(no, ", "))
		}
	}
	return nil
}

// configSource is a map that a node was once allowed to read when it named it.
func configSource(o *corev1.Node) *corev1.NodeConfigSource {
	return o.Spec.ConfigSource //lint:ignore SA1019 the field is still there to be written
}

func sameTaint(a, b corev1.Taint) bool {
	return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect && apiequality.Semantic.DeepEqual(a.TimeAdded, b.TimeAdded)
}

// ownLabels are the labels in the domains of Kubernetes that a kubelet says of itself.
var ownLabels = map[string]bool{
	corev1.LabelHostname: true, corev1.LabelTopologyZone: true, corev1.LabelTopologyRegion: true,
	corev1.LabelFailureDomainBetaZone: true, corev1.LabelFailureDomainBetaRegion: true,
	corev1.LabelInstanceType: true, corev1.LabelInstanceTypeStable: true,
	corev1.LabelOSStable: true, corev1.LabelArchStable: true, "beta.kubernetes.io/os": true, "beta.kubernetes.io/arch": true,
}

// forbiddenLabels are those that differ and are not the kubelet's to say, sorted.
func forbiddenLabels(labels, old map[string]string) []string {
	no := map[string]bool{}
	for key, value := range labels {
		if had, ok := old[key]; (!ok || had != value) && !ownLabel(key) {
			no[key] = true
		}
	}
	for key := range old {
		if _, ok := labels[key]; !ok && !ownLabel(key) {
			no[key] = true
		}
	}
	return slices.Sorted(maps.Keys(no))
}

func ownLabel(key string) bool {
	domain, _, qualified := strings.Cut(key, "/")
	switch {
	case !qualified:
		return true
	case within(domain, corev1.LabelNamespaceNodeRestriction):
		return false
	case !within(domain, "kubernetes.io") && !within(domain, "k8s.io"):
		return true
	}
	return ownLabels[key] || within(domain, corev1.LabelNamespaceSuffixKubelet) || within(domain, corev1.LabelNamespaceSuffixNode)
}

// within says whether a domain is another, or under it.
func within(domain, of string) bool { return domain == of || strings.HasSuffix(domain, "."+of) }

func restrictLease(a *admission.Attributes, node string) error {
	if a.Namespace != corev1.NamespaceNodeLease {
		return forbid(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if a.Name != node {
		return forbid(a, "can only access node lease with the same name as the requesting node")
	}
	return nil
}

func restrictSlice(a *admission.Attributes, node string) error {
	of := func(o any) string {
		if s, ok := o.(*resourcev1.ResourceSlice); ok && s.Spec.NodeName != nil {
			return *s.Spec.NodeName
		}
		return ""
	}
	switch {
	case a.Operation == admission.Create && of(a.Object) != node:
		return forbid(a, "can only create ResourceSlice with the same NodeName as the requesting node")
	case a.Operation == admission.Update && of(a.Old) != node: // the field itself cannot change
		return forbid(a, "can only update ResourceSlice with the same NodeName as the requesting node")
	case a.Operation == admission.Delete && of(a.Old) != node:
		return forbid(a, "can only delete ResourceSlice with the same NodeName as the requesting node")
	}
	return nil
}

// restrictClaim lets a node tell how far a claim has grown.
func restrictClaim(a *admission.Attributes, node string) error {
	if a.Subresource != "status" {
		return forbid(a, "may only update PVC status")
	}
	if a.Operation != admission.Update {
		return forbid(a, "unexpected operation %q", a.Operation)
	}
	o, old := a.Object.(*corev1.PersistentVolumeClaim).DeepCopy(), a.Old.(*corev1.PersistentVolumeClaim).DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{o, old} {
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions, c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil, nil, nil
	}
	if !apiequality.Semantic.DeepEqual(o, old) {
		return forbid(a, "node %q is not allowed to update fields other than status.capacity and status.conditions", node)
	}
	return nil
}

// restrictVolume lets a node say that the folder of a volume that is going is gone, and nothing else of any volume.
func restrictVolume(a *admission.Attributes, node string) error {
	if a.Operation != admission.Update || a.Subresource != "" {
		return forbid(a, "unexpected operation %q, node %q can only take the finalizer %s from its persistent volumes", a.Operation, node, localvolume.Finalizer)
	}
	o, old := a.Object.(*corev1.PersistentVolume).DeepCopy(), a.Old.(*corev1.PersistentVolume).DeepCopy()
	if old.Labels[localvolume.NodeLabel] != node {
		return forbid(a, "node %q can only modify persistent volumes that are its own folders", node)
	}
	if old.DeletionTimestamp == nil {
		return forbid(a, "node %q can only take the finalizer from a persistent volume that is being deleted", node)
	}
	old.Finalizers = slices.DeleteFunc(old.Finalizers, func(f string) bool { return f == localvolume.Finalizer })
	for _, v := range []*corev1.PersistentVolume{o, old} {
		v.ResourceVersion, v.ManagedFields = "", nil
	}
	if !apiequality.Semantic.DeepEqual(o, old) {
		return forbid(a, "node %q is not allowed to update fields other than the finalizer %s", node, localvolume.Finalizer)
	}
	return nil
}
