// Package resources is the table of every kind the server serves with its first breath: one line a kind, no logic. The kinds
// stand in the packages below, a file each; custom resources are added to the registry at run time by the room crd.
package resources

import (
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/admissionregistration"
	"pilothouse.dev/apiserver/resources/apiextensions"
	"pilothouse.dev/apiserver/resources/apiregistration"
	"pilothouse.dev/apiserver/resources/apps"
	"pilothouse.dev/apiserver/resources/authentication"
	"pilothouse.dev/apiserver/resources/authorization"
	"pilothouse.dev/apiserver/resources/autoscaling"
	"pilothouse.dev/apiserver/resources/batch"
	"pilothouse.dev/apiserver/resources/certificates"
	"pilothouse.dev/apiserver/resources/coordination"
	"pilothouse.dev/apiserver/resources/core"
	"pilothouse.dev/apiserver/resources/discovery"
	"pilothouse.dev/apiserver/resources/events"
	"pilothouse.dev/apiserver/resources/flowcontrol"
	"pilothouse.dev/apiserver/resources/networking"
	"pilothouse.dev/apiserver/resources/node"
	"pilothouse.dev/apiserver/resources/policy"
	"pilothouse.dev/apiserver/resources/rbac"
	"pilothouse.dev/apiserver/resources/resource"
	"pilothouse.dev/apiserver/resources/scheduling"
	"pilothouse.dev/apiserver/resources/storage"
	"pilothouse.dev/apiserver/resources/storagemigration"
)

// Table is in the order in which discovery shows the kinds. A further version stands after the stored one.
var Table = []*registry.Resource{
	core.Bindings,
	core.ComponentStatuses,
	core.ConfigMaps,
	core.Endpoints,
	core.Events,
	core.LimitRanges,
	core.Namespaces,
	core.Nodes,
	core.PersistentVolumeClaims,
	core.PersistentVolumes,
	core.Pods,
	core.PodTemplates,
	core.ReplicationControllers,
	core.ResourceQuotas,
	core.Secrets,
	core.ServiceAccounts,
	core.Services,

	admissionregistration.MutatingAdmissionPolicies,
	admissionregistration.MutatingAdmissionPolicyBindings,
	admissionregistration.MutatingWebhookConfigurations,
	admissionregistration.ValidatingAdmissionPolicies,
	admissionregistration.ValidatingAdmissionPolicyBindings,
	admissionregistration.ValidatingWebhookConfigurations,

	apiextensions.CustomResourceDefinitions,

	apiregistration.APIServices,

	apps.ControllerRevisions,
	apps.DaemonSets,
	apps.Deployments,
	apps.ReplicaSets,
	apps.StatefulSets,

	authentication.SelfSubjectReviews,
	authentication.TokenReviews,

	authorization.LocalSubjectAccessReviews,
	authorization.SelfSubjectAccessReviews,
	authorization.SelfSubjectRulesReviews,
	authorization.SubjectAccessReviews,

	autoscaling.HorizontalPodAutoscalers,
	autoscaling.HorizontalPodAutoscalersV1,

	batch.CronJobs,
	batch.Jobs,

	certificates.CertificateSigningRequests,
	certificates.ClusterTrustBundles,
	certificates.PodCertificateRequests,

	coordination.Leases,

	discovery.EndpointSlices,

	events.Events,

	flowcontrol.FlowSchemas,
	flowcontrol.PriorityLevelConfigurations,

	networking.IPAddresses,
	networking.IngressClasses,
	networking.Ingresses,
	networking.NetworkPolicies,
	networking.ServiceCIDRs,

	node.RuntimeClasses,

	policy.PodDisruptionBudgets,

	rbac.ClusterRoleBindings,
	rbac.ClusterRoles,
	rbac.RoleBindings,
	rbac.Roles,

	resource.DeviceClasses,
	resource.DeviceTaintRules,
	resource.ResourceClaimTemplates,
	resource.ResourceClaims,
	resource.ResourceSlices,

	scheduling.PriorityClasses,

	storage.CSIDrivers,
	storage.CSINodes,
	storage.CSIStorageCapacities,
	storage.StorageClasses,
	storage.VolumeAttachments,
	storage.VolumeAttributesClasses,

	storagemigration.StorageVersionMigrations,
}
