package core

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/resources/podspec"
)

var (
	// countedKinds are resources of quotas that are numbers of objects.
	countedKinds = sets.New(corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets,
		corev1.ResourcePersistentVolumeClaims, corev1.ResourceConfigMaps, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers)
	podQuota = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory)
	standardQuota = countedKinds.Union(podQuota).Insert(corev1.ResourceEphemeralStorage, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourceRequestsStorage)
)

func isStandardQuota(name corev1.ResourceName) bool {
	return standardQuota.Has(name) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) ||
		strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

func validateQuotaName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := podspec.ValidateAnyResource(name, path)
	if !strings.Contains(string(name), "/") && !isStandardQuota(name) {
		errs = append(errs, field.Invalid(path, string(name), "must be a standard resource for quota"))
	}
	return errs
}

func validateQualified(text string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(text) {
		errs = append(errs, field.Invalid(path, text, msg))
	}
	return errs
}

// validateAmount checks a quantity of what a quota counts.
func validateAmount(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	errs := podspec.ValidateQuantity(name, q, path)
	if len(errs) == 0 && countedKinds.Has(name) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be an integer"))
	}
	return errs
}
