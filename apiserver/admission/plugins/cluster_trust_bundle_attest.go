package plugins

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"pilothouse.dev/apiserver/admission"
)

// clusterTrustBundleAttest lets authorities be published in the name of a signer by who may attest for it
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#clustertrustbundleattest).
type clusterTrustBundleAttest struct{ access Access }

func (*clusterTrustBundleAttest) Name() string { return "ClusterTrustBundleAttest" }

func (p *clusterTrustBundleAttest) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update || !a.Is("certificates.k8s.io", "clustertrustbundles") {
		return nil
	}
	is := a.Object.(*certificatesv1.ClusterTrustBundle)
	signer := is.Spec.SignerName // it never changes, which the kind's own validation keeps
	if signer == "" || a.Operation == admission.Update && onlyCollected(is, a.Old.(*certificatesv1.ClusterTrustBundle)) {
		return nil
	}
	if !forSigner(ctx, p.access, a, "attest", signer) {
		return forbid(a, "user not permitted to attest for signerName %q", signer)
	}
	return nil
}

// onlyCollected says whether an update changes nothing but what garbage collection does: owners and finalizers.
func onlyCollected(is, was *certificatesv1.ClusterTrustBundle) bool {
	is, was = is.DeepCopy(), was.DeepCopy()
	for _, b := range []*certificatesv1.ClusterTrustBundle{is, was} {
		b.OwnerReferences, b.Finalizers, b.ManagedFields = nil, nil, nil
	}
	return apiequality.Semantic.DeepEqual(is, was)
}
