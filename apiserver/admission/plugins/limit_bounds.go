package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helper "k8s.io/component-helpers/resource"
)

// bound is one bound of a limit range.
type bound struct {
	name  corev1.ResourceName
	value resource.Quantity
}

// least checks a minimum.
func (b bound) least(of corev1.LimitType, requests, limits corev1.ResourceList) error {
	request, asks := requests[b.name]
	limit, ends := limits[b.name]
	switch {
	case !asks:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", b.name, of, b.value.String())
	case request.Cmp(b.value) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", b.name, of, b.value.String(), request.String())
	case ends && limit.Cmp(b.value) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", b.name, of, b.value.String(), limit.String())
	}
	return nil
}

// most checks a maximum.
func (b bound) most(of corev1.LimitType, requests, limits corev1.ResourceList) error {
	request, asks := requests[b.name]
	limit, ends := limits[b.name]
	switch {
	case !ends:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", b.name, of, b.value.String())
	case limit.Cmp(b.value) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", b.name, of, b.value.String(), limit.String())
	case asks && request.Cmp(b.value) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", b.name, of, b.value.String(), request.String())
	}
	return nil
}

// ratio checks how far a limit may be above its request.
func (b bound) ratio(of corev1.LimitType, requests, limits corev1.ResourceList) error {
	request, limit := requests[b.name], limits[b.name]
	switch {
	case request.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", b.name, of, b.value.String())
	case limit.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", b.name, of, b.value.String())
	}
	if ratio := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); ratio > b.value.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", b.name, of, b.value.String(), ratio)
	}
	return nil
}

// podTotals are what a pod as a whole asks for and is limited to, its runtime's overhead apart.
func podTotals(p *corev1.Pod) (requests, limits corev1.ResourceList) {
	o := helper.PodResourcesOptions{ExcludeOverhead: true}
	return helper.PodRequests(p, o), helper.PodLimits(p, o)
}
