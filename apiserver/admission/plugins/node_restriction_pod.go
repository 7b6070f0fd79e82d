package plugins

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// restrictPod lets a node report and end its own pods, and make mirrors of its static ones.
func (p *nodeRestriction) restrictPod(ctx context.Context, a *admission.Attributes, node string) error {
	switch a.Subresource {
	case "":
	case "status":
		return restrictPodStatus(a, node)
	case "eviction":
		return p.restrictEviction(ctx, a, node)
	default:
		return forbid(a, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
	}
	switch a.Operation {
	case admission.Create:
		return p.restrictMirror(ctx, a, node)
	case admission.Delete:
		if a.Old.(*corev1.Pod).Spec.NodeName != node {
			return forbid(a, "node %q can only delete pods with spec.nodeName set to itself", node)
		}
		return nil
	}
	return forbid(a, "unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
}

func restrictPodStatus(a *admission.Attributes, node string) error {
	if a.Operation != admission.Update {
		return forbid(a, "unexpected operation %q", a.Operation)
	}
	o, old := a.Object.(*corev1.Pod), a.Old.(*corev1.Pod)
	if old.Spec.NodeName != node {
		return forbid(a, "node %q can only update pod status for pods with spec.nodeName set to itself", node)
	}
	if !maps.Equal(o.Labels, old.Labels) {
		return forbid(a, "node %q cannot update labels through pod status", node)
	}
	if !slices.EqualFunc(o.Status.ResourceClaimStatuses, old.Status.ResourceClaimStatuses, func(a, b corev1.PodResourceClaimStatus) bool {
		return a.Name == b.Name && ptr.Equal(a.ResourceClaimName, b.ResourceClaimName)
	}) {
		return forbid(a, "node %q cannot update resource claim statues", node)
	}
	if !apiequality.Semantic.DeepEqual(o.Status.ExtendedResourceClaimStatus, old.Status.ExtendedResourceClaimStatus) {
		return forbid(a, "node %q cannot update extended resource claim status", node) // what it names the node may read
	}
	return nil
}

// restrictEviction wants an evicted pod to be on the node that asks.
func (p *nodeRestriction) restrictEviction(ctx context.Context, a *admission.Attributes, node string) error {
	if a.Operation != admission.Create {
		return forbid(a, "unexpected operation %s", a.Operation)
	}
	o, err := p.pods.Pod(ctx, a.Namespace, a.Name)
	if err != nil {
		return err
	}
	if o.Spec.NodeName != node {
		return forbid(a, "node %s can only evict pods with spec.nodeName set to itself", node)
	}
	return nil
}

// restrictMirror lets a node show its static pods. They refer to nothing in the cluster: what a pod refers to its node may read.
func (p *nodeRestriction) restrictMirror(ctx context.Context, a *admission.Attributes, node string) error {
	o, ok := a.Object.(*corev1.Pod)
	if !ok {
		return forbid(a, "unexpected type %T", a.Object)
	}
	if !pod.Mirror(o) {
		return forbid(a, "pod does not have %q annotation, node %q can only create mirror pods", pod.AnnotationMirror, node)
	}
	if o.Spec.NodeName != node {
		return forbid(a, "node %q can only create pods with spec.nodeName set to itself", node)
	}
	if err := p.ownedBy(ctx, a, o, node); err != nil {
		return err
	}
	if o.Spec.ServiceAccountName != "" {
		return forbid(a, "node %q can not create pods that reference a service account", node)
	}
	if what := refersTo(&o.Spec); what != "" {
		return forbid(a, "node %q can not create pods that reference %s", node, what)
	}
	for _, c := range pod.Containers(o) {
		if what := environmentFrom(c); what != "" {
			return forbid(a, "node %q can not create pods that reference %s", node, what)
		}
	}
	return nil
}

// ownedBy wants a mirror pod to go with its node.
func (p *nodeRestriction) ownedBy(ctx context.Context, a *admission.Attributes, o *corev1.Pod, node string) error {
	switch n := len(o.OwnerReferences); {
	case n > 1:
		return forbid(a, "node %q can only create pods with a single owner reference set to itself", node)
	case n == 0:
		return forbid(a, "node %q can only create pods with an owner reference set to itself", node)
	}
	owner := o.OwnerReferences[0]
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node:
		return forbid(a, "node %q can only create pods with an owner reference set to itself", node)
	case !ptr.Deref(owner.Controller, false):
		return forbid(a, "node %q can only create pods with a controller owner reference set to itself", node)
	case blocks(owner):
		return forbid(a, "node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	have, err := p.nodes.Node(ctx, node)
	if err != nil {
		return err
	}
	if owner.UID != have.UID {
		return forbid(a, "node %s UID mismatch: expected %s got %s", node, owner.UID, have.UID)
	}
	return nil
}

// refersTo names a kind of objects that a pod refers to outside its containers' environment, empty for none.
func refersTo(spec *corev1.PodSpec) string {
	if len(spec.ImagePullSecrets) > 0 {
		return "secrets"
	}
	if len(spec.ResourceClaims) > 0 {
		return "resourceclaims"
	}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
			return "persistentvolumeclaims"
		case v.ConfigMap != nil:
			return "configmaps"
		case secretVolume(v):
			return "secrets"
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			switch {
			case s.Secret != nil:
				return "secrets"
			case s.ConfigMap != nil:
				return "configmaps"
			case s.ClusterTrustBundle != nil:
				return "clustertrustbundles"
			case s.ServiceAccountToken != nil:
				return "a service account token"
			case s.PodCertificate != nil:
				return "a pod certificate"
			}
		}
	}
	return ""
}

// secretVolume says whether a volume has a secret in it, or needs one.
func secretVolume(v *corev1.Volume) bool {
	return v.Secret != nil || v.AzureFile != nil ||
		v.CephFS != nil && v.CephFS.SecretRef != nil ||
		v.Cinder != nil && v.Cinder.SecretRef != nil ||
		v.CSI != nil && v.CSI.NodePublishSecretRef != nil ||
		v.FlexVolume != nil && v.FlexVolume.SecretRef != nil ||
		v.ISCSI != nil && v.ISCSI.SecretRef != nil ||
		v.RBD != nil && v.RBD.SecretRef != nil ||
		v.ScaleIO != nil && v.ScaleIO.SecretRef != nil ||
		v.StorageOS != nil && v.StorageOS.SecretRef != nil
}

// environmentFrom names what a container's environment comes from.
func environmentFrom(c *corev1.Container) string {
	for _, e := range c.EnvFrom {
		if e.SecretRef != nil {
			return "secrets"
		}
		if e.ConfigMapRef != nil {
			return "configmaps"
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if e.ValueFrom.SecretKeyRef != nil {
			return "secrets"
		}
		if e.ValueFrom.ConfigMapKeyRef != nil {
			return "configmaps"
		}
	}
	return ""
}
