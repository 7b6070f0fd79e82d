package certificates

import (
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// PodCertificateRequests are how a kubelet asks a signer for the certificate of a pod.
var PodCertificateRequests = registry.Define(registry.Kind[*certificatesv1.PodCertificateRequest]{
	Group: group, Version: version, Kind: "PodCertificateRequest", Plural: "podcertificaterequests",
	Namespaced: true, Status: true,
	Default: func(r *certificatesv1.PodCertificateRequest) {
		if r.Spec.MaxExpirationSeconds == nil {
			r.Spec.MaxExpirationSeconds = ptr.To[int32](86400)
		}
	},
	BeforeCreate: func(r *certificatesv1.PodCertificateRequest) {
		r.Status = certificatesv1.PodCertificateRequestStatus{}
	},
	Validate:       validatePodRequest,
	ValidateUpdate: validatePodRequestUpdate,
	ValidateStatus: validatePodRequestStatus,
	Fields: func(r *certificatesv1.PodCertificateRequest) fields.Set {
		return fields.Set{
			"spec.signerName": r.Spec.SignerName, "spec.podName": r.Spec.PodName, "spec.nodeName": string(r.Spec.NodeName),
		}
	},
	FieldNames: []string{"spec.signerName", "spec.podName", "spec.nodeName"},
	Columns: []registry.Column[*certificatesv1.PodCertificateRequest]{
		{Name: "PodName", Description: "The pod it is for.", Value: func(r *certificatesv1.PodCertificateRequest) any { return r.Spec.PodName }},
		{Name: "ServiceAccountName", Description: "As whom the pod runs.", Value: func(r *certificatesv1.PodCertificateRequest) any { return r.Spec.ServiceAccountName }},
		{Name: "NodeName", Description: "Where the pod runs.", Value: func(r *certificatesv1.PodCertificateRequest) any { return string(r.Spec.NodeName) }},
		{Name: "SignerName", Description: "Who is asked to sign.", Value: func(r *certificatesv1.PodCertificateRequest) any { return r.Spec.SignerName }},
		{Name: "State", Description: "What became of it.", Value: func(r *certificatesv1.PodCertificateRequest) any { return podRequestState(r) }},
	},
})

var outcomes = []string{
	certificatesv1.PodCertificateRequestConditionTypeDenied,
	certificatesv1.PodCertificateRequestConditionTypeFailed,
	certificatesv1.PodCertificateRequestConditionTypeIssued,
}

func podRequestState(r *certificatesv1.PodCertificateRequest) string {
	for _, c := range r.Status.Conditions {
		if slices.Contains(outcomes, c.Type) && c.Status == metav1.ConditionTrue {
			return c.Type
		}
	}
	return "Pending"
}
