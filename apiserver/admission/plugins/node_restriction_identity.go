package plugins

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/pod"
)

// restrictToken wants a token to be bound to a pod of the node that asks, and for whom the pod needs one.
func (p *nodeRestriction) restrictToken(ctx context.Context, a *admission.Attributes, node string) error {
	t, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return forbid(a, "unexpected type %T", a.Object)
	}
	ref := t.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return forbid(a, "node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return forbid(a, "node requested token with a pod binding without a uid")
	}
	o, err := p.pods.Pod(ctx, a.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if ref.UID != o.UID {
		return forbid(a, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if o.Spec.NodeName != node {
		return forbid(a, "node requested token bound to a pod scheduled on a different node")
	}
	return p.restrictAudience(ctx, a, t, o)
}

// restrictAudience lets a node ask for a token for those that the pod's volumes name, and for whom it is allowed by the verb
// request-serviceaccounts-token-audience
// (https://kubernetes.io/docs/reference/access-authn-authz/node/#service-account-token-audience-restriction).
func (p *nodeRestriction) restrictAudience(ctx context.Context, a *admission.Attributes, t *authenticationv1.TokenRequest, o *corev1.Pod) error {
	want := ""
	switch all := t.Spec.Audiences; {
	case len(all) == 0 || sameAudiences(all, p.audiences):
	case len(all) > 1:
		return forbid(a, "node may only request 0 or 1 audiences")
	default:
		want = all[0]
	}
	names, err := p.names(ctx, o, want)
	if err != nil || names {
		return err
	}
	i := &request.Info{
		Verb: "request-serviceaccounts-token-audience", IsResource: true, Version: "v1", Resource: want, Namespace: a.Namespace, Name: a.Name,
	}
	if want != "" {
		if ok, _ := p.access.Allow(ctx, a.User, i); ok {
			return nil
		}
	}
	return forbid(a, "audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", want, a.User.Name)
}

func sameAudiences(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// names says whether a volume of the pod is for a token for that audience; the empty one is this API.
func (p *nodeRestriction) names(ctx context.Context, o *corev1.Pod, audience string) (bool, error) {
	for i := range o.Spec.Volumes {
		v := &o.Spec.Volumes[i]
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil && (s.ServiceAccountToken.Audience == audience || audience == "" && sameAudiences([]string{s.ServiceAccountToken.Audience}, p.audiences))
		}) {
			return true, nil
		}
		driver, err := p.driver(ctx, o, v)
		if err != nil {
			return false, err
		}
		if driver == "" {
			continue
		}
		d, err := p.volumes.CSIDriver(ctx, driver)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(d.Spec.TokenRequests, func(t storagev1.TokenRequest) bool { return t.Audience == audience }) {
			return true, nil
		}
	}
	return false, nil
}

// driver is the CSI driver of a volume, empty when it has none, or none yet.
func (p *nodeRestriction) driver(ctx context.Context, o *corev1.Pod, v *corev1.Volume) (string, error) {
	claim := ""
	switch {
	case v.CSI != nil:
		return v.CSI.Driver, nil
	case v.PersistentVolumeClaim != nil:
		claim = v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		claim = o.Name + "-" + v.Name
	default:
		return "", nil
	}
	c, err := p.volumes.PersistentVolumeClaim(ctx, o.Namespace, claim)
	if err != nil || c.Spec.VolumeName == "" {
		return "", ignoreMissing(err)
	}
	volume, err := p.volumes.PersistentVolume(ctx, c.Spec.VolumeName)
	if err != nil || volume.Spec.CSI == nil {
		return "", ignoreMissing(err)
	}
	return volume.Spec.CSI.Driver, nil
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// restrictRequest lets a node ask for certificates in its own name.
func restrictRequest(a *admission.Attributes, node string) error {
	spec := &a.Object.(*certificatesv1.CertificateSigningRequest).Spec
	if spec.SignerName != certificatesv1.KubeletServingSignerName && spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	block, _ := pem.Decode(spec.Request)
	if block == nil {
		return forbid(a, "unable to parse csr: PEM block type must be CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return forbid(a, "unable to parse csr: %w", err)
	}
	if csr.Subject.CommonName != nodePrefix+node {
		return forbid(a, "can only create a node CSR with CN=%s%s", nodePrefix, node)
	}
	return nil
}

// restrictPodRequest lets a node ask for the certificates of its pods, as they are.
func (p *nodeRestriction) restrictPodRequest(ctx context.Context, a *admission.Attributes, node string) error {
	spec := &a.Object.(*certificatesv1.PodCertificateRequest).Spec
	if string(spec.NodeName) != node {
		return forbid(a, "PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", spec.NodeName, node)
	}
	o, err := p.pods.Pod(ctx, a.Namespace, spec.PodName)
	if err != nil {
		return err
	}
	have, err := p.nodes.Node(ctx, node)
	if err != nil {
		return err
	}
	switch {
	case spec.PodUID != o.UID:
		return forbid(a, "PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", spec.PodName, spec.PodUID, o.UID)
	case o.Spec.NodeName != node:
		return forbid(a, "PodCertificateRequest for pod %q, which is not running on node %q", spec.PodName, node)
	case pod.Mirror(o):
		return forbid(a, "pod %q is a mirror pod, which has no certificates", spec.PodName)
	case spec.NodeUID != have.UID:
		return forbid(a, "PodCertificateRequest for pod %q contains node UID (%q) which differs from running node %q", spec.PodName, spec.NodeUID, have.UID)
	case spec.ServiceAccountName != o.Spec.ServiceAccountName:
		return forbid(a, "PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod %q", spec.PodName, spec.ServiceAccountName, o.Spec.ServiceAccountName)
	}
	account, err := p.accounts.ServiceAccount(ctx, a.Namespace, spec.ServiceAccountName)
	if err != nil {
		return err
	}
	if spec.ServiceAccountUID != account.UID {
		return forbid(a, "PodCertificateRequest for pod %q contains serviceAccountUID (%q) that differs from running pod %q", spec.PodName, spec.ServiceAccountUID, account.UID)
	}
	if !slices.ContainsFunc(o.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.PodCertificate != nil && s.PodCertificate.SignerName == spec.SignerName
		})
	}) {
		return forbid(a, "signer %q not found in pod spec volume", spec.SignerName)
	}
	return nil
}
